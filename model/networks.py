"""The networks of the paper, all runs of an experiment at once: every tensor has a leading run axis.

Reads and writes nothing. Shapes are (runs, batch, features). A run's weights, dropout and outputs depend on its own
number alone, never on how many runs share the stack.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.01


class Dropout:
    """Dropout masks, run by run: a run's masks come from its own generator, so that the stack's size changes nothing.

    `probability` is the share of units dropped; `rows` and `width` the shape of the layer (batch, units). The masks are
    made on the host, several at a time, so that CPU and GPU see the same ones.
    """

    DRAWN_AT_ONCE = 1 << 15  # units of one run
    LEVELS = 1 << 16

    def __init__(self, seeds: Sequence[int], probability: float, rows: int, width: int, device: torch.device):
        self._generators = [np.random.SFC64(seed) for seed in seeds]
        self._shape = (max(1, self.DRAWN_AT_ONCE // (rows * width)), rows, width)
        self._threshold = round(probability * self.LEVELS) - self.LEVELS // 2
        self._scale = 1 / (1 - probability)
        self._off = probability == 0
        self._device = device
        self._masks: list[Tensor] = []

    def __call__(self, units: Tensor) -> Tensor:
        """`units` (runs, rows, width) with some set to zero and the others scaled up."""
        if self._off:
            return units
        if not self._masks:
            self._masks = self._draw()
        return units * self._masks.pop()

    def _draw(self) -> list[Tensor]:
        count = math.prod(self._shape)
        words = -(-count // 4)  # a 64-bit word gives four 16-bit draws
        draws = np.empty((len(self._generators), words), dtype=np.uint64)
        for run, generator in enumerate(self._generators):
            draws[run] = generator.random_raw(words)
        levels = torch.from_numpy(draws.view(np.int16))[:, :count].to(self._device)
        masks = torch.empty(levels.shape, device=self._device)
        torch.ge(levels, self._threshold, out=masks).mul_(self._scale)  # six times as fast as by way of booleans
        return list(masks.view(-1, *self._shape).transpose(0, 1))  # each (R, B, H)


class Noise:
    """What a training adds to its networks: dropout of hidden units, and of the features that an encoder sees."""

    def __init__(
        self,
        seeds: Callable[[str], Sequence[int]],
        hidden: float,
        inputs: float,
        shape: tuple[int, int],
        device: torch.device,
    ):
        rows, width = shape
        self._hidden = Dropout(seeds("hidden"), hidden, rows, width, device)
        self._make = lambda purpose, width: Dropout(seeds(purpose), inputs, rows, width, device)
        self._inputs: dict[str, Dropout] = {}

    def hidden(self, units: Tensor) -> Tensor:
        """A hidden layer (R, B, H) with units dropped."""
        return self._hidden(units)

    def features(self, features: Tensor, name: str) -> Tensor:
        """The features (R, B, F) that the encoder `name` sees, with some dropped."""
        if name not in self._inputs:
            self._inputs[name] = self._make(f"input {name}", features.shape[-1])
        return self._inputs[name](features)


class StackedMLP(nn.Module):
    """Encoder, decoder or head as published: twice Linear-LeakyReLU-Dropout-LayerNorm, then Linear.

    Kaiming-uniform weights, zero biases. Maps (runs, batch, inputs) to (runs, batch, outputs). Beyond the paper: `skip`
    adds a linear path beside the hidden layers, which begins at zero; `silent` lets the last layer begin at zero.
    """

    def __init__(
        self, seeds: Sequence[int], inputs: int, hidden: int, outputs: int, skip: bool = False, silent: bool = False
    ):
        super().__init__()
        runs = len(seeds)
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.weight1 = nn.Parameter(_kaiming_uniform(generators, inputs, hidden))
        self.weight2 = nn.Parameter(_kaiming_uniform(generators, hidden, hidden))
        self.weight3 = nn.Parameter(_kaiming_uniform(generators, hidden, outputs))
        self.bias1 = nn.Parameter(torch.zeros(runs, 1, hidden))
        self.bias2 = nn.Parameter(torch.zeros(runs, 1, hidden))
        self.bias3 = nn.Parameter(torch.zeros(runs, 1, outputs))
        self.scale1 = nn.Parameter(torch.ones(runs, 1, hidden))
        self.scale2 = nn.Parameter(torch.ones(runs, 1, hidden))
        self.shift1 = nn.Parameter(torch.zeros(runs, 1, hidden))
        self.shift2 = nn.Parameter(torch.zeros(runs, 1, hidden))
        self.skip_weight = nn.Parameter(torch.zeros(runs, inputs, outputs)) if skip else None
        if silent:
            nn.init.zeros_(self.weight3)

    def forward(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """(R, B, inputs) -> (R, B, outputs); without `noise` nothing is dropped."""
        h = torch.baddbmm(self.bias1, x, self.weight1)  # (R, B, H)
        h = _block(h, self.scale1, self.shift1, noise)
        h = torch.baddbmm(self.bias2, h, self.weight2)
        h = _block(h, self.scale2, self.shift2, noise)
        answer = torch.baddbmm(self.bias3, h, self.weight3)
        return answer if self.skip_weight is None else torch.baddbmm(answer, x, self.skip_weight)


def _block(h: Tensor, scale: Tensor, shift: Tensor, noise: Noise | None) -> Tensor:
    """LeakyReLU, Dropout, LayerNorm with each run's own scale and shift."""
    h = F.leaky_relu(h, LEAKY_SLOPE)
    if noise is not None:
        h = noise.hidden(h)
    return torch.addcmul(shift, F.layer_norm(h, h.shape[-1:]), scale)


def _kaiming_uniform(generators: Sequence[torch.Generator], inputs: int, outputs: int) -> Tensor:
    """(R, inputs, outputs), uniform within sqrt(6 / inputs) as torch.nn.init.kaiming_uniform_ for ReLU."""
    bound = math.sqrt(6 / inputs)
    drawn = [torch.rand(inputs, outputs, generator=generator) for generator in generators]
    return torch.stack(drawn).mul_(2 * bound).sub_(bound)
