"""3 x 3 convolutions with fewer multiplications, for processors whose bfloat16 products are what costs.

Winograd's minimal filtering F(2 x 2, 3 x 3) after Lavin and Gray, Fast Algorithms for Convolutional Neural Networks
(2016): 16 products where the plain way takes 36, against a few more sums. In bfloat16 its rounding is somewhat coarser;
`compute.place` measures what comes of it. Not for AMX or GPUs, where products cost less than sums.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

# Kernel transform G: a tile of 4 x 4 products gives 2 x 2 outputs.
KERNEL = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


class WinogradConvolution(nn.Module):
    """The same as a 3 x 3 convolution with stride 1 and padding 1, of pictures of even height and width.

    With `pools` also as the 2 x 2 max-pooling after it, whose windows are the tiles.
    """

    def __init__(self, convolution: nn.Conv2d, pools: bool):
        super().__init__()
        kernel = convolution.weight.detach().float()  # (out, in, 3, 3)
        transform = torch.tensor(KERNEL, device=kernel.device)
        tiles = torch.einsum("ak,oikl,bl->abio", transform, kernel, transform)  # (4, 4, in, out)
        self.weight = nn.Parameter(tiles.flatten(0, 1).contiguous(), requires_grad=False)
        self.bias = nn.Parameter(convolution.bias.detach().clone(), requires_grad=False)
        self.pools = pools

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in, height, width), channels last -> (n, out, height, width), or half of both sides; channels last."""
        count, channels, height, width = x.shape
        high, wide = height // 2, width // 2  # tiles
        tiles = self._tiles(x, high, wide)
        products = torch.bmm(tiles.view(16, -1, channels), self.weight).view(4, 4, count, high, wide, -1)
        upper = products[0].add(products[1]).add_(products[2])  # (4, n, high, wide, out)
        lower = products[1].sub_(products[2]).sub_(products[3])
        if self.pools:
            best = torch.maximum(*_pair(upper))
            for output in _pair(lower):
                torch.maximum(best, output, out=best)
            return best.add_(self.bias).permute(0, 3, 1, 2)
        out = x.new_empty(count, high, 2, wide, 2, len(self.bias))
        for row, sums in enumerate((upper, lower)):
            for column, output in enumerate(_pair(sums)):
                torch.add(output, self.bias, out=out[:, :, row, :, column])
        return out.view(count, height, width, -1).permute(0, 3, 1, 2)

    def _tiles(self, x: torch.Tensor, high: int, wide: int) -> torch.Tensor:
        """The transformed input tiles, (16, n, high, wide, in)."""
        padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))  # (n, height + 2, width + 2, in)
        tiles = x.new_empty(16, len(x), high, wide, x.shape[1])
        for row, rows in enumerate(_differences([padded[:, k : k + 2 * high : 2] for k in range(4)])):
            columns = [rows[:, :, k : k + 2 * wide : 2] for k in range(4)]
            torch.sub(columns[0], columns[2], out=tiles[4 * row])
            torch.add(columns[1], columns[2], out=tiles[4 * row + 1])
            torch.sub(columns[2], columns[1], out=tiles[4 * row + 2])
            torch.sub(columns[1], columns[3], out=tiles[4 * row + 3])
        return tiles


def _differences(four: list[torch.Tensor]) -> list[torch.Tensor]:
    """Input transform B along one axis."""
    return [four[0] - four[2], four[1] + four[2], four[2] - four[1], four[1] - four[3]]


def _pair(sums: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Output transform A along the columns: two outputs of four sums, which it uses up."""
    left = sums[0].add_(sums[1]).add_(sums[2])
    return left, sums[1].sub_(sums[2]).sub_(sums[3])
