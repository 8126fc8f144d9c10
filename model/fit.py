"""The one training loop: every stage and every baseline goes through it.

Takes a stage (its losses and its networks) and a stack (its batches); the networks are trained where they are. Returns
the learning curves. Nothing but the training and validation items of a run is looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.data import CLASSIFICATION, Stack
from model.metrics import macro_f1, r2
from model.networks import Noise
from model.seeds import seed_of
from model.stages import Stage
from pipeline.errors import UserError

CURVE_POINTS = 100  # a curve has at most about so many points; validation in between would only cost time
EXPLODED = 1e8


@dataclass(frozen=True)
class Label:
    """What is being trained, for curves and errors."""

    corpus: str
    modality: str
    variant: str
    stage: str


@dataclass(frozen=True)
class Point:
    """A point of a learning curve."""

    run: int
    epoch: int
    train_loss: float
    val_loss: float
    val_metric: float | None


def fit(stage: Stage, stack: Stack, settings: Mapping[str, Any], seed: int, label: Label) -> list[Point]:
    """Train `stage` on `stack`: Adam on each run's mean loss, for `epochs` epochs.

    Raises UserError naming corpus, variant, run, stage and epoch where a loss is no number or has exploded.
    """
    epochs = settings["epochs"]
    optimiser = make_optimiser(stage, settings)
    noise = make_noise(stage, stack, settings, seed, label)
    curve: list[Point] = []
    shuffled = stack.epochs(seed, label.stage)
    measured_every = -(-epochs // CURVE_POINTS)
    for epoch in range(1, epochs + 1):
        train_loss = torch.zeros(len(stack.runs), device=stack.device)
        for batch, weight in next(shuffled):
            loss = (stage.loss(batch, noise) * weight).sum(1)  # (R,): the runs' losses are independent of each other
            optimiser.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimiser.step()
            train_loss += loss.detach()
        train_loss /= stack.plan.steps
        check_loss(train_loss, stack.runs, epoch, label)
        if epoch % measured_every == 0 or epoch == epochs:
            curve += measure(stage, stack, epoch, train_loss)
    return curve


def make_optimiser(stage: Stage, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Adam over all runs at once, in one fused call; weight decay (decoupled) on weights alone."""
    weights = [parameter for name, parameter in stage.named_parameters() if "weight" in name]
    others = [parameter for name, parameter in stage.named_parameters() if "weight" not in name]
    return torch.optim.AdamW(
        [{"params": weights, "weight_decay": settings["weight_decay"]}, {"params": others, "weight_decay": 0.0}],
        lr=settings["learning_rate"],
        fused=True,
    )


def make_noise(stage: Stage, stack: Stack, settings: Mapping[str, Any], seed: int, label: Label) -> Noise:
    """The runs' dropout for one training."""
    seeds = [seed_of(seed, run, f"dropout {label.stage} {label.modality} {label.variant}") for run in stack.runs]
    return Noise(seeds, settings["dropout"], stack.plan.rows, settings["hidden"], stack.device)


@torch.no_grad()
def measure(stage: Stage, stack: Stack, epoch: int, train_loss: Tensor) -> list[Point]:
    """Each run's loss and metric on its own validation items."""
    batch, weight = stack.part("val")
    val_loss = (stage.loss(batch, None) * weight).sum(1)
    answer = stage.answer(batch)
    metric = [None] * len(stack.runs) if answer is None else part_metric(stack, answer, weight, batch.target())
    return [
        Point(run, epoch, train, val, value)
        for run, train, val, value in zip(stack.runs, train_loss.tolist(), val_loss.tolist(), metric, strict=True)
    ]


def part_metric(stack: Stack, answer: Tensor, weight: Tensor, target: Tensor) -> list[float]:
    """Macro F1 or R2 of each run's answers (R, B, outputs) over the items whose weight is not zero."""
    predicted = decide(answer, stack.corpus.task)
    values = []
    for run in range(len(stack.runs)):
        mine = weight[run] > 0
        truth, guess = target[run][mine].cpu().numpy(), predicted[run][mine].cpu().numpy()
        values.append(macro_f1(truth, guess) if stack.corpus.task == CLASSIFICATION else r2(truth, guess))
    return values


def decide(answer: Tensor, task: str) -> Tensor:
    """From a network's answers (..., outputs) to class indices or values (...)."""
    return answer.argmax(-1) if task == CLASSIFICATION else answer.squeeze(-1)


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
