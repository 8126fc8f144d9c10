"""The points of the learning curves, and what they are curves of. Reads and writes nothing."""

from dataclasses import dataclass


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
    their other terms, can not. Both are None where a stage gives no answers. `kept`: the run left these weights behind.
    """

    run: int
    epoch: int
    train_loss: float | None
    val_loss: float
    val_task_loss: float | None
    val_metric: float | None
    kept: bool = False
