"""The extractors by name. Adding one is one file and one line here; the config swaps them by `extractor: NAME`.

Modules are named as text and imported when asked for: an extractor's fingerprint starts at its own file and does not
reach the others through this one. The Snakefile calls `check` and `fingerprint_of`, which import nothing heavy.

The module of an extractor has:
    Settings                          dataclass of its config keys, with defaults (`extractor.parse_settings` fills it)
    weights_identity(settings) -> str what tells these weights from others: a name and revision, or a hash of local
                                      files. Asked for every job, so a file is read once
    load(settings, weights_path, plan) -> Extractor
    NEEDS_WEIGHTS_FILE = True         only if `load` reads a file that `python -m pipeline weights MODALITY` makes; then
    CONVERSION                        names the module whose convert(settings, output_path) makes it
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.errors import UserError
from pipeline.features.extractor import Extractor, parse_settings, settings_of_rows
from pipeline.fingerprint import fingerprint

EXTRACTORS = {
    "lexical": {
        "bert": "pipeline.features.bert",
    },
    "acoustic": {
        "vggish": "pipeline.features.vggish",
        "huggingface_audio": "pipeline.features.huggingface_audio",
    },
    "visual": {
        "face": "pipeline.features.face",
    },
}
ENGINE = "pipeline.features.engine"


def check(modality: str, settings: Mapping[str, Any]) -> Any:
    """The settings of `features.MODALITY`, checked and filled with defaults, as the extractor's Settings.

    Raises UserError for an unknown extractor, key or value.
    """
    return parse_settings(_module(modality, settings).Settings, settings, f"features.{modality}")


def fingerprint_of(modality: str, settings: Mapping[str, Any]) -> str:
    """What a modality's rows depend on: code of the extractor and the engine, settings, identity of the weights."""
    module = _module(modality, settings)
    checked = check(modality, settings)
    what = {
        "extractor": settings["extractor"],
        "code": fingerprint(module.__name__, ENGINE),
        "settings": settings_of_rows(checked),
        "weights": module.weights_identity(checked),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def weights_fingerprint(modality: str, settings: Mapping[str, Any]) -> str:
    """What the file of converted weights depends on: the code that converts them, and their identity."""
    module = _module(modality, settings)
    what = [fingerprint(module.CONVERSION), module.weights_identity(check(modality, settings))]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def needs_weights_file(modality: str, settings: Mapping[str, Any]) -> bool:
    """Whether the extractor reads weights converted by `python -m pipeline weights MODALITY`."""
    return getattr(_module(modality, settings), "NEEDS_WEIGHTS_FILE", False)


def convert_weights(modality: str, settings: Mapping[str, Any], output_path: str | Path) -> None:
    """Make the file of converted weights (safetensors). Raises UserError where the extractor has none to convert."""
    module = _module(modality, settings)
    if not needs_weights_file(modality, settings):
        raise UserError(f"features.{modality}: extractor {settings['extractor']} reads its weights as they are")
    importlib.import_module(module.CONVERSION).convert(check(modality, settings), output_path)


def load(modality: str, settings: Mapping[str, Any], weights_path: str | Path | None = None) -> Extractor:
    """The extractor that `settings` describe, ready to run on the device and in the precision they ask for.

    Raises UserError where weights are missing, with which file to put where.
    """
    from pipeline.features import compute

    module = _module(modality, settings)
    checked = check(modality, settings)
    if needs_weights_file(modality, settings) and weights_path is None:
        raise UserError(
            f"features.{modality}: extractor {settings['extractor']} needs converted weights: make them with "
            f"`python -m pipeline weights {modality} --settings JSON --output FILE` and name them with --weights FILE"
        )
    return module.load(checked, weights_path, compute.plan(checked.device, checked.precision))


def _module(modality: str, settings: Mapping[str, Any]) -> ModuleType:
    if modality not in EXTRACTORS:
        raise UserError(f"config: features.{modality} is no modality; write one of: {', '.join(EXTRACTORS)}")
    known = EXTRACTORS[modality]
    name = settings.get("extractor")
    if name not in known:
        raise UserError(f"config: features.{modality}.extractor is {name!r}; write one of: {', '.join(known)}")
    return importlib.import_module(known[name])
