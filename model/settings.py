"""What a training is told: the paper's numbers, the tuned ones, and the settings that each stage sees.

Every default stands here; `workflow/schemas/training.schema.yaml` repeats them for the user, and a test holds the two
together. A stage is given the common settings and its own section, so that a change in one section changes that stage
and what follows from it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from model.variants import STUDENTS
from pipeline.errors import UserError

Settings = dict[str, Any]

PROTOCOLS = ("paper", "grouped")
SETTINGS = ("paper", "tuned")
STAGES = ("unimodal", "multimodal", "distilled", "stage1", "stage2", "stage3", "stage4")
STUDENT_STAGES = ("unimodal", "distilled", "stage2", "stage3", "stage4")
SECTIONS = (*STUDENTS, *STAGES)

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
    "keep": "last",  # the weights of a run's last epoch; or its "best", by the loss on its validation items
    "averaging": 0.98,  # decay of the running mean of the weights; 0 is none
    # Beyond the paper: off here, used by `tuned`.
    "whiten": {},  # {modality: softening}: decorrelate the features of a modality
    "normalize_target": False,  # regression: the target by the mean and deviation of the run's training items
    "skip": False,  # a linear path beside the hidden layers of every network
    "silent_head": False,  # the head's last layer begins at zero
    "input_dropout": 0.0,  # of the features that an encoder sees
    "stage3": {"alpha": 0.3, "weighting": "equations", "relative_latent": False},
    "stage4": {
        "alpha": 0.3,
        "weighting": "equations",
        "relative_latent": False,
        "imitation": 0.3,  # the part of equations 5 and 6 in the task's loss; 0 is equation 4 as it stands
        "temperature": 7.0,
        "fall_back": False,  # leave a run whose teacher has learned nothing the unimodal network
    },
    "distilled": {"alpha": 0.3, "temperature": 7.0},
}
PAPER_OF_CORPUS: dict[str, Settings] = {
    "mit": {
        "dropout": 0.75,
        "learning_rate": 2e-3,
        "epochs": 1000,
        "keep": "best",
        "stage4": {"alpha": 0.1, "fall_back": True},
    },
}

# What the recipe of the README adds to them, alike for every variant; `tune` chooses the sizes from here on.
TUNED: Settings = {
    "dropout": 0.5,
    "learning_rate": 2e-3,
    "weight_decay": 0.1,
    "batch_size": 128,
    "epochs": 20,
    "keep": "last",  # how many epochs there are is itself chosen
    "whiten": {"acoustic": 0.1},
    "normalize_target": True,
    "skip": True,
    "input_dropout": 0.45,
    "acoustic": {"learning_rate": 4e-3, "weight_decay": 2.0, "epochs": 16},
    "stage1": {"epochs": 6},
    "stage2": {"epochs": 8},
    "stage3": {"relative_latent": True},
    "stage4": {
        "relative_latent": True,
        "imitation": 0.0,
        "fall_back": True,
        "learning_rate": 1.5e-3,
        "epochs": 8,
        "alpha": 1.0,
    },
}
TUNED_OF_CORPUS: dict[str, Settings] = {
    "mit": {
        "dropout": 0.7,
        "input_dropout": 0.6,
        "learning_rate": 4e-3,
        "weight_decay": 3.0,
        "epochs": 60,
        "whiten": {},
        "silent_head": True,
        "acoustic": {"weight_decay": 3.0, "epochs": 60},
        "stage1": {"epochs": 30},
        "stage2": {"epochs": 60},
        "stage4": {"learning_rate": 4e-4, "epochs": 30},
    },
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
    "trials": 6,  # candidates that tuning offers beside the settings as they stand
    "paper": {},
    "tuned": {},
    "corpora": {},
}
EXPERIMENTS: Settings = {"tables": [1, 2, 3, 4, 5, 6]}

# What a section may set for itself; the shapes of the networks are common, since a later stage takes over an earlier
# stage's networks.
_COMMON_ONLY = ("hidden", "latent", "normalize", "balance", "whiten", "normalize_target", "skip", "silent_head")


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
        layers += [TUNED, TUNED_OF_CORPUS.get(corpus, {}), block["tuned"], of_corpus.get("tuned")]
    settings = PAPER
    for layer in layers:
        settings = merge(settings, layer or {})
    _check(settings, f"training settings {name!r} of {corpus}")
    return settings


def of_stages(settings: Mapping[str, Any], stages: Sequence[str], students: Sequence[str]) -> Settings:
    """What each stage is told: the common settings, then the student's section, then the stage's own.

    A stage that trains a student of one modality has an entry for each, such as `stage4.lexical`; `pinned` names what
    its own section says, which tuning leaves alone.
    """
    common = {key: value for key, value in settings.items() if key not in SECTIONS}
    found = {}
    for stage in stages:
        own = settings.get(stage, {})
        if stage in STUDENT_STAGES:
            for student in students:
                told = {**common, **settings.get(student, {}), **own}
                found[f"{stage}.{student}"] = {**told, "pinned": sorted(own)}
        else:
            found[stage] = {**common, **own}
    return found


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> Settings:
    """`base` with the values of `over`; sections are merged key by key, the rest replaced."""
    merged = {key: dict(value) if isinstance(value, Mapping) else value for key, value in base.items()}
    for key, value in over.items():
        if isinstance(value, Mapping) and key in SECTIONS:
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
