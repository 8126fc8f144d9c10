"""Checks a workflow configuration against a JSON schema, and says of each mistake what to write instead.

Read by the Snakefile before any rule is made; the schemas are in workflow/schemas/.
"""

import copy
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError


def validated(config: Mapping[str, Any], schema_path: str | Path) -> dict[str, Any]:
    """A copy of `config` with the schema's defaults filled in.

    Raises UserError that lists every wrong key and value with its place (``corpora.ted.metdata``).
    """
    import yaml
    from jsonschema import Draft202012Validator
    from referencing import Registry, Resource

    schema_path = Path(schema_path)
    schema = yaml.safe_load(schema_path.read_text())
    neighbours = {
        path.name: Resource.from_contents(yaml.safe_load(path.read_text()))
        for path in sorted(schema_path.parent.glob("*.schema.yaml"))
    }
    registry = Registry().with_resources(neighbours.items())
    validator = Draft202012Validator(schema, registry=registry)
    errors = sorted(validator.iter_errors(dict(config)), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        lines = [line for error in errors for line in _explain(error)]
        raise UserError("the configuration has mistakes:\n  " + "\n  ".join(dict.fromkeys(lines)))
    filled = copy.deepcopy(dict(config))
    _fill(filled, schema, neighbours)
    return filled


def _explain(error) -> Iterable[str]:
    """The sentences for one schema error: where it is, what is wrong, what to write."""
    place = ".".join(map(str, error.absolute_path)) or "the top level"
    if "propertyNames" in error.absolute_schema_path:
        yield f"{place}: the name {error.instance!r} does not fit; use a-z, digits and '_', beginning with a letter"
    elif error.validator == "additionalProperties":
        allowed = sorted(error.schema.get("properties", {}))
        for key in sorted(set(error.instance) - set(allowed)):
            near = difflib.get_close_matches(str(key), allowed, n=1)
            hint = f"write {near[0]!r}" if near else f"allowed are {', '.join(allowed)}"
            yield f"{place}: unknown key {key!r}; {hint}"
    elif error.validator == "required":
        yield f"{place}: {error.message.replace(' is a required property', ' is missing')}; add it"
    elif error.validator == "enum":
        yield f"{place}: {error.instance!r} is not possible; write one of {', '.join(map(repr, error.validator_value))}"
    elif error.validator == "type":
        wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
        yield f"{place}: {error.instance!r} is no {' or '.join(wanted)}; write one"
    elif error.validator == "pattern":
        yield f"{place}: {error.instance!r} does not fit ({error.schema['description']})"
    else:
        described = error.schema.get("description")
        yield f"{place}: {error.message}" + (f" ({described})" if described else "")


def _fill(value: Any, schema: Mapping[str, Any], neighbours: Mapping[str, Any]) -> None:
    """Put the schema's defaults where `value` says nothing."""
    if "$ref" in schema:
        name, _, pointer = schema["$ref"].partition("#/")
        target = neighbours[name].contents if name else None
        if target is None:
            return
        for part in filter(None, pointer.split("/")):
            target = target[part]
        schema = target
    if not isinstance(value, dict):
        return
    for key, inner in schema.get("properties", {}).items():
        if key not in value and "default" in inner:
            value[key] = copy.deepcopy(inner["default"])
        if key in value:
            _fill(value[key], inner, neighbours)
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        for key in value:
            if key not in schema.get("properties", {}):
                _fill(value[key], extra, neighbours)
