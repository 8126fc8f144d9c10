"""The one training loop: every stage and every baseline goes through it.

Takes a stage (its losses and its networks) and a stack (its batches); the networks are trained where they are. Returns
the learning curves. Nothing but the training and validation items of a run is looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.data import CLASSIFICATION, Batch, Stack
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
    """A point of a learning curve; epoch 0 is where a training begins.

    The task's own loss and the metric can be compared between stages and variants; the losses that are minimised, with
    their other terms, can not. Both are None where a stage gives no answers.
    """

    run: int
    epoch: int
    train_loss: float | None
    val_loss: float
    val_task_loss: float | None
    val_metric: float | None


def fit(stage: Stage, stack: Stack, settings: Mapping[str, Any], seed: int, label: Label) -> list[Point]:
    """Train `stage` on `stack`: Adam on each run's mean loss, for `epochs` epochs.

    With `averaging` the weights that are measured, and left behind, are running means of the weights of all steps.
    Raises UserError naming corpus, variant, run, stage and epoch where a loss is no number or has exploded.
    """
    epochs = settings["epochs"]
    adam = Adam(stage, settings["learning_rate"], settings["weight_decay"])
    average = Average(stage, settings["averaging"])
    noise = make_noise(stack, settings, seed, label)
    validation = stack.part("val")  # once: its batch keeps the features that it has gathered
    curve = measure(stage, stack, *validation, 0, None)
    shuffled = stack.epochs(seed, label.stage)
    measured_every = -(-epochs // CURVE_POINTS)
    for epoch in range(1, epochs + 1):
        train_loss = torch.zeros(len(stack.runs), stack.plan.rows, device=stack.device)
        for batch, weight in next(shuffled):
            loss = stage(batch, noise).loss * weight
            loss.sum().backward()  # the runs' losses are independent of each other
            adam.step()
            average.step()
            train_loss += loss.detach()
        train_loss = train_loss.sum(1) / stack.plan.steps
        check_loss(train_loss, stack.runs, epoch, label)
        if epoch % measured_every == 0 or epoch == epochs:
            with average.in_place():
                curve += measure(stage, stack, *validation, epoch, train_loss)
    average.keep()
    return curve


class Adam:
    """Adam over all runs at once in one fused call, with decoupled weight decay on weights alone.

    The kernel of torch.optim.AdamW without the class around it, whose first use imports a compiler (a second or more in
    each of the workflow's many short jobs).
    """

    def __init__(self, stage: Stage, learning_rate: float, weight_decay: float):
        groups: dict[float, list[Tensor]] = {}
        for name, parameter in stage.named_parameters():
            groups.setdefault(weight_decay if "weight" in name else 0.0, []).append(parameter)
        self._groups = [AdamGroup(parameters, decay) for decay, parameters in groups.items()]
        self._steps = torch.zeros((), device=self._groups[0].parameters[0].device)
        self._learning_rate = learning_rate

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by their gradients, and forget these."""
        self._steps += 1
        for group in self._groups:
            torch._fused_adamw_(
                group.parameters,
                [parameter.grad for parameter in group.parameters],
                group.means,
                group.squares,
                [],
                [self._steps] * len(group.parameters),
                lr=self._learning_rate,
                beta1=0.9,
                beta2=0.999,
                weight_decay=group.decay,
                eps=1e-8,
                amsgrad=False,
                maximize=False,
            )
            for parameter in group.parameters:
                parameter.grad = None


class AdamGroup:
    """Parameters that decay alike, and the running moments of their gradients."""

    def __init__(self, parameters: list[Tensor], decay: float):
        self.parameters, self.decay = parameters, decay
        self.means = [torch.zeros_like(parameter) for parameter in parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in parameters]


class Average:
    """A running mean of a stage's weights: of all steps so far at first, then with the given decay; 0 is none."""

    def __init__(self, stage: Stage, decay: float):
        self._parameters = list(stage.parameters()) if decay else []
        self._means = [parameter.detach().clone() for parameter in self._parameters]
        self._decay, self._steps = decay, 0

    @torch.no_grad()
    def step(self) -> None:
        """Take the present weights into the mean."""
        if self._parameters:
            self._steps += 1
            torch._foreach_lerp_(self._means, self._parameters, max(1 / self._steps, 1 - self._decay))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The means stand where the weights are, for a while."""
        self._swap()
        yield
        self._swap()

    def keep(self) -> None:
        """The means become the weights."""
        self._swap()

    def _swap(self) -> None:
        for parameter, mean in zip(self._parameters, self._means, strict=True):
            parameter.data, mean.data = mean.data, parameter.data


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
