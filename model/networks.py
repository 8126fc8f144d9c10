"""The networks of the paper, all runs of an experiment at once: every tensor has a leading run axis.

Reads and writes nothing. Shapes are (runs, batch, features). A run's weights, dropout and outputs depend on its own
number alone, never on how many runs share the stack.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.01


class Dropout:
    """Dropout masks, run by run: a run's masks come from its own generator, so that the stack's size changes nothing.

    `probability` is the share of units dropped; `rows` and `width` the shape of the layer (batch, units). The draws are
    made on the host, several masks at a time, so that CPU and GPU see the same ones.
    """

    DRAWN_AT_ONCE = 1 << 15  # units of one run
    LEVELS = 1 << 16

    def __init__(self, seeds: Sequence[int], probability: float, rows: int, width: int, device: torch.device):
        self._generators = [np.random.SFC64(seed) for seed in seeds]
        self._shape, self.units = (rows, width), rows * width
        self._at_once = max(1, self.DRAWN_AT_ONCE // self.units)
        self._left = np.empty((len(seeds), 0, self.units), dtype=np.int16)
        self.threshold = round(probability * self.LEVELS) - self.LEVELS // 2
        self.scale = 1 / (1 - probability)
        self.off = probability == 0
        self._device = device
        self._masks: Iterator[Tensor] = iter(())

    def __call__(self, units: Tensor) -> Tensor:
        """`units` (runs, rows, width) with some set to zero and the others scaled up."""
        if self.off:
            return units
        mask = next(self._masks, None)
        if mask is None:
            self._masks = self._make()
            mask = next(self._masks)
        return units * mask

    def draws(self, masks: int) -> np.ndarray:
        """What the next masks are made of: (runs, masks or more, rows * width), int16; none if nothing is dropped.

        A unit whose draw is below `threshold` is dropped; what stays is multiplied by `scale`.
        """
        if self.off:
            return np.empty((0, 0, 0), dtype=np.int16)
        at_once = self._at_once
        words = -(-at_once * self.units // 4)  # a 64-bit word gives four 16-bit draws
        left = self._left.shape[1]
        drawn = np.empty((len(self._generators), left + at_once * -(-(masks - left) // at_once), self.units), np.int16)
        drawn[:, :left] = self._left
        for run, generator in enumerate(self._generators):
            for start in range(left, drawn.shape[1], at_once):
                draws = generator.random_raw(words).view(np.int16)[: at_once * self.units]
                drawn[run, start : start + at_once] = draws.reshape(at_once, -1)[::-1]
        self._left = drawn[:, masks:].copy()
        return drawn

    def _make(self) -> Iterator[Tensor]:
        """Some more masks, (R, B, H) each."""
        levels = torch.from_numpy(self.draws(self._at_once)).to(self._device)
        masks = torch.empty(levels.shape, device=self._device)
        torch.ge(levels, self.threshold, out=masks).mul_(self.scale)  # six times as fast as by way of booleans
        return iter(masks.unflatten(-1, self._shape).transpose(0, 1))


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
        self.hidden = Dropout(seeds("hidden"), hidden, rows, width, device)
        self._make = lambda purpose, width: Dropout(seeds(purpose), inputs, rows, width, device)
        self._inputs: dict[tuple[str, ...], Dropout] = {}

    def inputs(self, modalities: tuple[str, ...], width: int) -> Dropout:
        """Dropout of the features of the encoder that sees these modalities."""
        if modalities not in self._inputs:
            self._inputs[modalities] = self._make(f"input {'-'.join(modalities)}", width)
        return self._inputs[modalities]


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
