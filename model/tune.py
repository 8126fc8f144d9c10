"""Chooses the few settings that matter, for each run by itself, from that run's training and validation items alone.

Reads a dataset and its splits; gives for every student and run the settings that override the tuned ones. Honest by
construction: the candidates are drawn before any data is seen (Optuna's quasi-random sampler), and a run chooses among
them by cross-validation inside its own training and validation items. A run's test items, which may be another run's
training items, play no part in its choice.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.data import Corpus, Split
from model.fit import Point
from model.seeds import seed_of
from model.splits import deal
from model.train import Task, Trainer
from model.variants import UNIMODAL
from pipeline.progress import progress

EPOCH_SHARES = (0.5, 1.0)  # of the epochs that the settings give; read off one learning curve
INNER_FOLDS = 3

Choice = dict[str, dict[int, dict[str, Any]]]  # student -> run -> settings


def candidates(trials: int, seed: int, usual: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings as they stand, then `trials` others spread evenly over the space."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.QMCSampler(seed=seed % 2**32, scramble=True, warn_asynchronous_seeding=False)
    study = optuna.create_study(sampler=sampler)
    space = {
        "learning_rate": optuna.distributions.FloatDistribution(1e-3, 8e-3, log=True),
        "weight_decay": optuna.distributions.FloatDistribution(0.05, 8.0, log=True),
        "dropout": optuna.distributions.FloatDistribution(0.2, 0.8),
        "input_dropout": optuna.distributions.FloatDistribution(0.0, 0.65),
    }
    found = [{name: usual[name] for name in space}]
    for _ in range(trials):
        trial = study.ask(space)
        found.append({name: float(f"{value:.3g}") for name, value in trial.params.items()})
        study.tell(trial, 0.0)  # nothing is learned from: the next candidate depends on no data
    return found


def inner_splits(corpus: Corpus, split: Split, folds: int, grouped: bool, seed: int) -> list[Split]:
    """Cross-validation inside a run's training and validation items; its test items are in no part."""
    inside = np.sort(np.concatenate([split.train, split.val]))
    labels = corpus.groups[inside] if grouped else np.arange(len(inside))
    _, group_of = np.unique(labels, return_inverse=True)
    rng = np.random.default_rng(seed_of(seed, split.run, "inner folds"))
    fold_of = deal(np.bincount(group_of), folds, rng)[group_of]
    none = np.array([], dtype=np.int64)
    return [
        Split(split.run * folds + fold, inside[fold_of != fold], inside[fold_of == fold], none) for fold in range(folds)
    ]


def choose(task: Task, students: Sequence[str], trials: int, grouped: bool) -> Choice:
    """For every student and run the candidate, and the share of the epochs, with the least inner validation loss."""
    inner = [one for split in task.splits for one in inner_splits(task.corpus, split, INNER_FOLDS, grouped, task.seed)]
    chosen: Choice = {}
    for student in students:
        stage = f"{UNIMODAL}.{student}"
        usual = task.settings[stage]
        offered = candidates(trials, seed_of(task.seed, 0, f"candidates {student}"), usual)
        shares = sorted({max(1, round(share * usual["epochs"])) for share in EPOCH_SHARES})
        losses = np.stack(
            [
                _losses(task, inner, student, {**usual, **candidate}, shares)
                for candidate in progress(offered, what=f"candidates for the {student} student")
            ]
        )  # (candidates, shares, runs)
        flat = losses.reshape(-1, len(task.splits))
        chosen[student] = {}
        for place, split in enumerate(task.splits):
            candidate, share = divmod(int(flat[:, place].argmin()), len(shares))
            chosen[student][split.run] = {**offered[candidate], "epochs": shares[share]}
    return chosen


def _losses(
    task: Task, inner: Sequence[Split], student: str, settings: Mapping[str, Any], shares: Sequence[int]
) -> np.ndarray:
    """Mean validation loss over a run's inner folds at each number of epochs, (shares, runs)."""
    trainer = Trainer(Task(task.corpus, inner, {f"{UNIMODAL}.{student}": settings}, task.seed, task.device))
    trainer.plain((student,))
    points: list[Point] = [point for _, point in trainer.trained.curves]
    table = np.full((len(shares), len(inner)), np.nan)
    row_of = {one.run: row for row, one in enumerate(inner)}
    for point in points:
        if point.epoch in shares:
            table[shares.index(point.epoch), row_of[point.run]] = point.val_loss
    return table.reshape(len(shares), -1, INNER_FOLDS).mean(-1)


def read(path: str) -> Choice:
    """A choice from its YAML file."""
    import yaml

    with open(path) as file:
        return yaml.safe_load(file)["choice"]


def write(path: Any, choice: Choice, made_by: Mapping[str, Any]) -> None:
    """A choice as YAML, with what made it."""
    import yaml

    with open(path, "w") as file:
        yaml.safe_dump({"choice": choice, "provenance": dict(made_by)}, file, sort_keys=True)
