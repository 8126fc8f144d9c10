"""What a training is told: the paper's numbers, the tuned ones, and the settings that each stage sees.

Every default stands here; `workflow/schemas/training.schema.yaml` repeats them for the user, and a test holds the two
together. A stage is given the common settings and its own section, so that a change in one section changes that stage
and what follows from it.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import UserError

Settings = dict[str, Any]

PROTOCOLS = ("paper", "grouped")
SETTINGS = ("paper", "tuned")
SECTIONS = ("unimodal", "multimodal", "distilled", "stage1", "stage2", "stage3", "stage4")

# The paper's numbers (its section on training, and its code where the text is silent).
PAPER: Settings = {
    "normalize": "standard",  # each feature by the mean and deviation of the run's training items; or "none"
    "balance": False,  # weigh training items so that every class counts alike
    "hidden": 64,
    "latent": 64,
    "dropout": 0.1,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "batch_size": 64,
    "epochs": 10,
    "stage3": {"alpha": 0.3, "weighting": "equations"},
    "stage4": {"alpha": 0.3, "weighting": "equations"},
    "distilled": {"alpha": 0.3, "temperature": 7.0},
}
PAPER_OF_CORPUS: dict[str, Settings] = {
    "mit": {"dropout": 0.75, "learning_rate": 2e-3, "epochs": 1000, "stage4": {"alpha": 0.1}},
}

TRAINING: Settings = {
    "seed": 0,
    "runs": 10,  # trainings of the paper protocol, each with its own random split
    "folds": 10,  # of the grouped protocol
    "repeats": 3,  # of the grouped protocol: cross-validations with fresh folds
    "protocols": list(PROTOCOLS),
    "settings": ["paper"],
    "device": "auto",
    "threads": 1,
    "paper": {},
    "tuned": {},
    "corpora": {},
}
EXPERIMENTS: Settings = {"tables": [1, 2, 3, 4, 5, 6]}

# What a section may set for itself; the shapes of the networks are common, since a later stage takes over an earlier
# stage's networks.
_COMMON_ONLY = ("hidden", "latent", "normalize", "balance")


def training_block(config: Mapping[str, Any]) -> Settings:
    """The `training` block of a config with every default filled in."""
    return {**TRAINING, **(config.get("training") or {})}


def resolve(training: Mapping[str, Any], corpus: str, name: str) -> Settings:
    """Every setting of `corpus` under the settings `name` (paper, tuned): defaults, then the config's own words.

    Later ones win: the paper's numbers, the paper's numbers for this corpus, `training.paper`,
    `training.corpora.CORPUS.paper`; for `tuned` the same list, then its own.
    """
    block = {**TRAINING, **training}
    of_corpus = (block["corpora"] or {}).get(corpus) or {}
    layers = [PAPER_OF_CORPUS.get(corpus, {}), block["paper"], of_corpus.get("paper")]
    if name == "tuned":
        layers += [block["tuned"], of_corpus.get("tuned")]
    settings = PAPER
    for layer in layers:
        settings = merge(settings, layer or {})
    _check(settings, f"training settings {name!r} of {corpus}")
    return settings


def section(settings: Mapping[str, Any], name: str) -> Settings:
    """The settings that the section `name` sees: the common ones and its own."""
    common = {key: value for key, value in settings.items() if key not in SECTIONS}
    return {**common, **settings.get(name, {})}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Settings:
    """`base` with the values of `over`; sections are merged key by key."""
    merged = {key: dict(value) if isinstance(value, Mapping) else value for key, value in base.items()}
    for key, value in over.items():
        if isinstance(value, Mapping):
            merged[key] = {**merged.get(key, {}), **value}
        else:
            merged[key] = value
    return merged


def _check(settings: Settings, where: str) -> None:
    common = {key for key in PAPER if key not in SECTIONS}
    for key, value in settings.items():
        if key in SECTIONS:
            allowed = (common - set(_COMMON_ONLY)) | set(PAPER.get(key, {}))
            for inner in value:
                if inner not in allowed:
                    raise UserError(f"{where}: {key} has no setting {inner!r}; it has {', '.join(sorted(allowed))}")
        elif key not in common:
            known = ", ".join(sorted(common) + sorted(SECTIONS))
            raise UserError(f"{where}: there is no setting {key!r}; there are {known}")
