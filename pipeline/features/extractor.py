"""What every extractor is made of: an item goes in, units of network input come out, and a row for each unit.

Read by the extractors (one file each), by the engine, which batches units of many items, and by `bundle`, which knows
the extractors by name. Nothing here imports a heavy library, so that the workflow can check settings as it starts.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import UserError

if typing.TYPE_CHECKING:
    import numpy as np


class NoRows(Exception):
    """An item that has no features; its text is the reason that is recorded for the item."""


@dataclass(frozen=True)
class Item:
    """One item as an extractor sees it: its text, or its sound (FLAC bytes), or a cut of a video file."""

    item_id: str
    text: str | None = None
    audio: bytes | None = None
    video: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    side: str | None = None


@dataclass(frozen=True)
class Unit:
    """One row to be: the network's input for it, and where it stands in its item.

    Units of the same `size` can share a batch; `size` depends on the unit alone, so that a row never changes with its
    neighbours. It is also what the unit costs: tokens, samples, or 1.
    """

    index: int
    size: int
    data: np.ndarray
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Bundle:
    """What an extractor is: weights, input format and output travel together. Goes into the provenance of its files."""

    name: str
    modality: str
    weights: str
    revision: str | None
    untrained: bool
    licence: str
    sample_rate_hz: float | None
    preprocessing: str
    widths: dict[str, int]
    device: str
    precision: str
    bfloat16_cosine: float | None = None
    method: str = "plain"

    def as_dict(self) -> dict[str, Any]:
        """For the provenance."""
        return dataclasses.asdict(self)


class Extractor(ABC):
    """One way to make rows of a modality. `units` runs in reader threads, `run` in the main thread."""

    bundle: Bundle
    batch_size: int  # units in a batch times their size: what fits well
    lookahead: int = 64  # items that may be in work at once

    @abstractmethod
    def units(self, item: Item) -> Generator[Unit, None, str | None]:
        """Yield the units of `item`; return a note on it, or None.

        Raises NoRows where it has no features (also after some units: their rows are dropped).
        """

    @abstractmethod
    def run(self, units: Sequence[Unit]) -> dict[str, np.ndarray]:
        """Rows for units of one size: float32 (len(units), width) for each column of `bundle.widths`."""


def rows_unchanged(default: Any) -> Any:
    """A settings field that says how to compute, not what: it stays out of the fingerprint."""
    return dataclasses.field(default=default, metadata={"rows_unchanged": True})


Settings = typing.TypeVar("Settings")


def parse_settings(kind: type[Settings], given: Mapping[str, Any], where: str) -> Settings:
    """The dataclass `kind` filled from a config section; `where` names the section (features.lexical).

    Raises UserError for an unknown key, a missing one or a value of the wrong type, with what to write instead.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    values = {key: value for key, value in given.items() if key != "extractor"}
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it can have: {', '.join(sorted(fields))}"
            raise UserError(f"config: {where}.{key} is no setting of this extractor; {hint}")
        values[key] = _typed(value, hints[key], f"{where}.{key}")
    for name, field in fields.items():
        if name not in values and field.default is dataclasses.MISSING:
            raise UserError(f"config: {where}.{name} is missing; add it")
    try:
        return kind(**values)
    except ValueError as error:
        raise UserError(f"config: {where}: {error}") from None


def settings_of_rows(settings: Any) -> dict[str, Any]:
    """The settings that the rows depend on."""
    return {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if not field.metadata.get("rows_unchanged")
    }


def _typed(value: Any, hint: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):
        choices = typing.get_args(hint)
        if value is None and type(None) in choices:
            return None
        hint = next(choice for choice in choices if choice is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        allowed = typing.get_args(hint)
        if value not in allowed:
            raise UserError(f"config: {where} is {value!r}; write one of: {', '.join(map(str, allowed))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise UserError(f"config: {where} is {value!r}; write a value of type {hint.__name__}")
    return value
