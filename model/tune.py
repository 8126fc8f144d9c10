"""Chooses the few settings that matter, for each run by itself, from that run's training and validation items alone.

Reads a dataset and its splits; gives for a student, run by run, the settings that override the tuned ones. Honest by
construction: the candidates are drawn before any data is seen (Optuna's quasi-random sampler), and a run chooses among
them by cross-validation inside its own training and validation items. A run's test items, which may be another run's
training items, play no part in its choice.

Two choices follow each other. What every network is told (learning rate, weight decay, both dropouts, epochs) is chosen
on the unimodal network. What stage 4 is told besides (alpha, its own learning rate and epochs) is chosen on students
that went through stages 1 to 3 inside the same folds: a network that begins where stage 3 ended needs less of both.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from model import checkpoint
from model.data import CLASSIFICATION, Corpus, Split
from model.seeds import seed_of
from model.splits import deal
from model.train import Task, Trainer
from model.variants import OURS, UNIMODAL
from pipeline.progress import progress

INNER_FOLDS = 3
EPOCH_SHARES = (0.4, 0.6, 0.8, 1.0)  # of the epochs that the settings give; read off one learning curve
STAGE4 = "stage4"
STAGE4_EPOCH_SHARES = (0.0, 0.5, 1.0)  # the same of stage 4; 0 leaves stage 3's student as it is
STAGE4_SLOWER = (1.0, 0.3)  # times stage 4's learning rate
ALPHAS = (0.1, 0.3, 1.0)
SIGNIFICANT = 0.05  # a gain's p-value below which a run leaves the settings as they stand

Settings = Mapping[str, Any]
Choice = dict[str, dict[int, Settings]]  # student -> run -> settings
Costs = Mapping[tuple[int, int], Sequence[float]]  # (run, epoch) -> a cost for each inner fold


class Inner(NamedTuple):
    """The inner folds of all runs, numbered through, and the run that each belongs to."""

    splits: list[Split]
    run_of: list[int]


def candidates(trials: int, seed: int, usual: Settings) -> list[Settings]:
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
    """Cross-validation inside a run's training and validation items; its test items are in no part.

    Fewer groups than folds make fewer folds: none is empty.
    """
    inside = np.sort(np.concatenate([split.train, split.val]))
    labels = corpus.groups[inside] if grouped else np.arange(len(inside))
    _, group_of = np.unique(labels, return_inverse=True)
    rng = np.random.default_rng(seed_of(seed, split.run, "inner folds"))
    fold_of = deal(np.bincount(group_of), folds, rng)[group_of]
    none = np.array([], dtype=np.int64)
    return [
        Split(fold, inside[fold_of != fold], inside[fold_of == fold], none)
        for fold in range(folds)
        if (fold_of == fold).any()
    ]


def choose(task: Task, student: str, trials: int, grouped: bool) -> Choice:
    """For every run the settings that do best on the validation items of its inner folds; see `_best`."""
    folds = [
        (split.run, one)
        for split in task.splits
        for one in inner_splits(task.corpus, split, INNER_FOLDS, grouped, task.seed)
    ]
    inner = Inner([replace(one, run=number) for number, (_, one) in enumerate(folds)], [run for run, _ in folds])
    chosen = _common(task, inner, student, trials)
    if len(task.corpus.features) > 1:
        of_stage4 = _stage4(task, inner, student, chosen)
        chosen = [{**common, STAGE4: own} for common, own in zip(chosen, of_stage4, strict=True)]
    return {student: {split.run: own for split, own in zip(task.splits, chosen, strict=True)}}


def _common(task: Task, inner: Inner, student: str, trials: int) -> list[Settings]:
    """What each run's networks are told, chosen on the unimodal network."""
    stage = f"{UNIMODAL}.{student}"
    usual = task.settings[stage]
    offered = candidates(trials, seed_of(task.seed, 0, f"candidates {student}"), usual)

    def train(candidate: Settings) -> Costs:
        trainer = Trainer(replace(task, splits=inner.splits, settings={stage: {**usual, **candidate}}))
        trainer.plain((student,))
        return _costs(task, inner, trainer)

    return _chosen(task, progress(offered, what=f"candidates for the {student} student"), EPOCH_SHARES, usual, train)


def _stage4(task: Task, inner: Inner, student: str, common: Sequence[Settings]) -> list[Settings]:
    """What each run's stage 4 is told besides, chosen on students that went through stages 1 to 3."""
    teacher, usual = tuple(task.corpus.features), task.settings[f"{STAGE4}.{student}"]
    offered = [{name: usual[name] for name in ("alpha", "learning_rate")}]
    offered += [
        {"alpha": alpha, "learning_rate": usual["learning_rate"] * slower}
        for alpha in ALPHAS
        for slower in STAGE4_SLOWER
    ]

    common_of = {split.run: own for split, own in zip(task.splits, common, strict=True)}

    def told(more: Settings) -> Choice:
        return {student: {number: {**common_of[run], **more} for number, run in enumerate(inner.run_of)}}

    before = Trainer(replace(task, splits=inner.splits, choice=told({})))
    before.stage1(teacher)
    before.stage2(teacher, student, before.trained.tensors)
    start = tuple(checkpoint.network(before.trained.tensors, "pretrained", name) for name in ("teacher", "student"))
    before.stage3(teacher, student, "pretrained", start)

    def train(candidate: Settings) -> Costs:
        trainer = Trainer(replace(task, splits=inner.splits, choice=told({STAGE4: candidate})))
        trainer.stage4(teacher, student, OURS, "pretrained", before.trained.tensors)
        return _costs(task, inner, trainer)

    offers = progress(offered, what=f"candidates for the {student} stage 4")
    return _chosen(task, offers, STAGE4_EPOCH_SHARES, usual, train)


def _chosen(
    task: Task,
    offers: Iterable[Settings],
    shares: Sequence[float],
    usual: Settings,
    train: Callable[[Settings], Costs],
) -> list[Settings]:
    """Each run's best offer and share of the epochs; the first offer is how the settings stand."""
    tried = [(offer, train(offer)) for offer in offers]
    costs = [cost for _, cost in tried]
    options = [(place, round(share * usual["epochs"])) for place in range(len(tried)) for share in shares]
    found = [_best(options, (0, usual["epochs"]), costs, split.run) for split in task.splits]
    return [{**tried[place][0], "epochs": epochs} for place, epochs in found]


def _costs(task: Task, inner: Inner, trainer: Trainer) -> Costs:
    """What is least at the best settings: cross-entropy, which is steadier than macro F1, or minus R2."""
    found: dict[tuple[int, int], list[float]] = {}
    for _, point in trainer.trained.curves:
        cost = point.val_task_loss if task.corpus.task == CLASSIFICATION else -point.val_metric
        found.setdefault((inner.run_of[point.run], point.epoch), []).append(cost)
    return found


def _best(
    options: Sequence[tuple[int, int]], usual: tuple[int, int], costs: Sequence[Costs], run: int
) -> tuple[int, int]:
    """The option (candidate, epochs) with the least mean cost over a run's inner folds.

    The usual one stays where the gain over it is not significant (Student's t over the folds, one-sided): a choice
    among many on few items would else follow their noise.
    """
    from scipy import stats

    def of(option: tuple[int, int]) -> np.ndarray:
        place, epochs = option
        measured = min((epoch for row, epoch in costs[place] if row == run), key=lambda epoch: abs(epoch - epochs))
        return np.array(costs[place][run, measured])

    best = min(options, key=lambda option: of(option).mean())
    if best == usual:
        return usual
    gain = of(usual) - of(best)
    return best if stats.ttest_1samp(gain, 0, alternative="greater").pvalue < SIGNIFICANT else usual


def read(paths: Iterable[str]) -> Choice:
    """The choices of one or more students, from their YAML files."""
    import yaml

    found: Choice = {}
    for path in paths:
        with open(path) as file:
            found |= yaml.safe_load(file)["choice"]
    return found


def write(path: Any, choice: Choice, made_by: Mapping[str, Any]) -> None:
    """A choice as YAML, with what made it."""
    import yaml

    with open(path, "w") as file:
        yaml.safe_dump({"choice": choice, "provenance": dict(made_by)}, file, sort_keys=True)
