"""The steps of an epoch: they move a stage's weights where they are, and give each run's mean loss.

On a GPU by the stage's own `forward` and autograd, on a CPU by `model.compiled`, from the stage's `wiring`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model import compiled
from model.data import Epoch, Stack
from model.networks import Dropout, Noise, StackedMLP
from model.optimiser import Adam, Average
from model.stages import Stage


def steps_of(stage: Stage, stack: Stack, settings: Mapping[str, Any], noise: Noise) -> "ByAutograd | Compiled":
    """The way of making steps that suits the device."""
    return (Compiled if stack.device.type == "cpu" else ByAutograd)(stage, stack, settings, noise)


class ByAutograd:
    """Steps by autograd; `average` holds the running means of the weights."""

    def __init__(self, stage: Stage, stack: Stack, settings: Mapping[str, Any], noise: Noise):
        self._stage, self._stack, self._noise = stage, stack, noise
        self._adam = Adam(stage, settings["learning_rate"], settings["weight_decay"])
        self.average = Average(stage, settings["averaging"])

    def make(self, epoch: Epoch) -> Tensor:
        """Take the steps of an epoch; the mean of each run's losses, (R,)."""
        total = torch.zeros(epoch.weight.shape[1:], device=self._stack.device)
        for batch, weight in epoch:
            loss = self._stage(batch, self._noise).loss * weight
            loss.sum().backward()  # the runs' losses are independent of each other
            self._adam.step()
            self.average.step()
            total += loss.detach()
        return total.sum(1) / len(epoch.index)


class Compiled:
    """Steps by compiled code; `average` holds the running means of the weights."""

    DRAWN_AT_ONCE = 1 << 20  # numbers for the dropout of one run

    def __init__(self, stage: Stage, stack: Stack, settings: Mapping[str, Any], noise: Noise):
        wiring = stage.wiring
        self._stack, self._settings, self._steps = stack, settings, 0
        self.average = Average(stage, settings["averaging"])
        self._networks = [self._learner(network) for network in wiring.networks]
        self._aims = compiled.Aims(
            float(wiring.task),
            float(wiring.reconstruction),
            float(wiring.latent),
            bool(wiring.relative),
            float(wiring.imitation),
            float(wiring.temperature),
        )
        seen = [wiring.modalities] if wiring.student is None else [wiring.modalities, wiring.beside]
        self._columns = stack.columns(seen[0]).start, stack.columns(seen[-1]).start
        # The dropout that a step asks for: of every hidden layer, and of what each encoder sees.
        self._hidden = [noise.hidden] * (2 * sum(network is not None for network in wiring.networks))
        self._inputs = [noise.inputs(modalities, stack.corpus.width(modalities)) for modalities in seen]

    def make(self, epoch: Epoch) -> Tensor:
        """Take the steps of an epoch; the mean of each run's losses, (R,)."""
        losses = np.zeros(len(self._stack.runs))
        drawn_a_step = sum(dropout.units for dropout in (*self._hidden, *self._inputs) if not dropout.off)
        at_once = max(1, self.DRAWN_AT_ONCE // max(1, drawn_a_step))
        for start in range(0, len(epoch.index), at_once):
            part = slice(start, start + at_once)
            self._learn(*(values[part].numpy() for values in (epoch.index, epoch.target, epoch.weight)), losses)
        return torch.from_numpy(losses / len(epoch.index)).float()

    def _learn(self, index: np.ndarray, target: np.ndarray, weight: np.ndarray, losses: np.ndarray) -> None:
        inputs = self._stack.inputs.numpy()
        frozen = {name: values.numpy() for name, values in self._stack.frozen.items()}
        classes = target.dtype == np.int64
        data = compiled.Data(
            inputs,
            self._columns,
            index,
            target if classes else _nothing(3, np.int64),
            _nothing(3, weight.dtype) if classes else target,
            weight,
            frozen.get("latent", _nothing(2, inputs.dtype)),
            frozen.get("answer", _nothing(2, inputs.dtype)),
        )
        pace = compiled.Pace(
            float(self._settings["learning_rate"]),
            float(self._settings["weight_decay"]),
            self._steps,
            float(self._settings["averaging"]),
        )
        hidden, seen = _masks(self._hidden, len(index)), _masks(self._inputs, len(index))
        compiled.learn(*self._networks, self._aims, data, hidden[0], seen[0], seen[-1], pace, losses)
        self._steps += len(index)

    def _learner(self, network: StackedMLP | None) -> compiled.Learner:
        """A network's weights, where they are, with fresh moments, and where the running means of its weights are."""
        names = compiled.Layers._fields
        dtype = self._stack.inputs.numpy().dtype
        if network is None:
            nothing = compiled.Layers(*(_nothing(3, dtype) for _ in names))
            return compiled.Learner(nothing, nothing, nothing, nothing)
        parameters = [getattr(network, name) for name in names]
        runs = len(network.weight1)
        weights = [np.empty((runs, 0, 0), dtype) if p is None else p.detach().numpy() for p in parameters]
        averages = [_nothing(3, dtype) if mean is None else mean.numpy() for mean in map(self.average.of, parameters)]
        moments = ([np.zeros_like(values) for values in weights] for _ in ("means", "squares"))
        return compiled.Learner(*(compiled.Layers(*arrays) for arrays in (weights, *moments, averages)))


def _masks(dropouts: Sequence[Dropout], steps: int) -> list[compiled.Masks]:
    """The masks of so many steps, each of which asks these dropouts in turn; one may be asked more than once."""
    drawn = {dropout: dropout.draws(steps * dropouts.count(dropout)) for dropout in dict.fromkeys(dropouts)}
    return [
        compiled.Masks(
            drawn[dropout],
            dropout.threshold,
            np.float32(dropout.scale),
            dropouts.count(dropout),
            dropouts[:place].count(dropout),
        )
        for place, dropout in enumerate(dropouts)
    ]


def _nothing(dimensions: int, dtype: Any) -> np.ndarray:
    """An array without items, where compiled code wants one that it will not use."""
    return np.empty((0,) * dimensions, dtype)
