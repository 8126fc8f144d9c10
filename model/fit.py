"""The one training loop: every stage and every baseline goes through it.

Takes a stage (its losses and its networks) and a stack (its batches); the networks are trained where they are. Returns
the learning curves. Nothing but the training and validation items of a run is looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from model.curves import Label, Point
from model.data import CLASSIFICATION, Batch, Stack
from model.kept import Kept
from model.metrics import macro_f1, r2
from model.networks import Noise
from model.seeds import seed_of
from model.stages import Stage
from model.steps import steps_of
from pipeline.errors import UserError

CURVE_POINTS = 100  # a curve has at most about so many points; validation in between would only cost time
EXPLODED = 1e8


def fit(stage: Stage, stack: Stack, settings: Mapping[str, Any], seed: int, label: Label) -> list[Point]:
    """Train `stage` on `stack`: Adam on each run's mean loss, for `epochs` epochs.

    With `averaging` the weights that are measured, and left behind, are running means of the weights of all steps. What
    is left behind is the last epoch, or the best that was measured of each run, as `keep` says.
    Raises UserError naming corpus, variant, run, stage and epoch where a loss is no number or has exploded.
    """
    epochs = settings["epochs"]
    steps = steps_of(stage, stack, settings, make_noise(stack, settings, seed, label))
    kept = Kept(stage, len(stack.runs), settings["keep"])
    validation = stack.part("val")  # once: its batch keeps the features that it has gathered
    curve: list[Point] = []

    def look(epoch: int, train_loss: Tensor | None) -> None:
        points = measure(stage, stack, *validation, epoch, train_loss)
        kept.see(epoch, [point.val_loss for point in points])
        curve.extend(points)

    look(0, None)
    shuffled = stack.epochs(seed, label.stage)
    measured_every = -(-epochs // CURVE_POINTS)
    for epoch in range(1, epochs + 1):
        train_loss = steps.make(next(shuffled))
        check_loss(train_loss, stack.runs, epoch, label)
        if epoch % measured_every == 0 or epoch == epochs:
            with steps.average.in_place():
                look(epoch, train_loss)
    steps.average.keep()
    kept.go_back()
    epoch_of = dict(zip(stack.runs, kept.epoch.tolist(), strict=True))
    return [replace(point, kept=point.epoch == epoch_of[point.run]) for point in curve]


def make_noise(stack: Stack, settings: Mapping[str, Any], seed: int, label: Label) -> Noise:
    """The runs' dropout for one training."""

    def seeds(purpose: str) -> list[int]:
        return [seed_of(seed, run, f"{purpose} {label.stage} {label.modality} {label.variant}") for run in stack.runs]

    shape = stack.plan.rows, settings["hidden"]
    return Noise(seeds, settings["dropout"], settings["input_dropout"], shape, stack.device)


@torch.no_grad()
def measure(
    stage: Stage, stack: Stack, batch: Batch, weight: Tensor, epoch: int, train_loss: Tensor | None
) -> list[Point]:
    """Each run's losses and metric on its own validation items, given as by `Stack.part`."""
    outcome = stage(batch)
    trained = of_task = metric = [None] * len(stack.runs)
    if train_loss is not None:
        trained = train_loss.tolist()
    if outcome.answer is not None:
        of_task = (outcome.task_loss * weight).sum(1).tolist()
        metric = part_metric(stack, outcome.answer, weight, batch)
    columns = zip(stack.runs, trained, (outcome.loss * weight).sum(1).tolist(), of_task, metric, strict=True)
    return [Point(run, epoch, *values) for run, *values in columns]


def part_metric(stack: Stack, answer: Tensor, weight: Tensor, batch: Batch) -> list[float]:
    """Macro F1 or R2 of each run's answers (R, B, outputs) over the items whose weight is not zero."""
    score = macro_f1 if stack.corpus.task == CLASSIFICATION else r2
    predicted = stack.decide(answer).cpu().numpy()
    target = stack.corpus.target[(batch.index % stack.items).cpu()].numpy()
    inside = (weight > 0).cpu().numpy()
    return [score(target[run][mine], predicted[run][mine]) for run, mine in enumerate(inside)]


def check_loss(loss: Tensor, runs: Sequence[int], epoch: int, label: Label) -> None:
    """Raise UserError where a run's loss (R,) is no number or beyond all measure."""
    bad = ~(loss.abs() < EXPLODED)
    if bad.any():
        place = int(bad.nonzero()[0])
        raise UserError(
            f"{label.corpus}, {label.modality}, variant {label.variant}, run {runs[place]}, {label.stage}, "
            f"epoch {epoch}: the loss is {loss[place].item():g}; lower learning_rate, or set normalize to standard. "
            "No checkpoint is written."
        )
