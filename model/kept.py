"""Which epoch of a training a run keeps: the last one, or the one that was best on its validation items.

Takes a stage and its losses on validation items, as training goes on; changes the stage's weights once, at its end.
"""

from collections.abc import Sequence

import torch

from model.stages import Stage


class Kept:
    """The epoch that each run of a stage keeps, with its weights.

    `best`: the one with the least validation loss so far, the beginning (epoch 0) counted. What a run keeps depends on
    no other run.
    """

    def __init__(self, stage: Stage, runs: int, keep: str):
        self._last = keep == "last"
        self._weights = [] if self._last else list(stage.parameters())
        self._best = [weights.detach().clone() for weights in self._weights]
        self._least = torch.full((runs,), torch.inf, dtype=torch.float64)
        self.epoch = torch.zeros(runs, dtype=torch.int64)

    @torch.no_grad()
    def see(self, epoch: int, losses: Sequence[float]) -> None:
        """Take in the runs' losses on validation items after so many epochs; the weights stand in the stage."""
        now = torch.tensor(losses, dtype=torch.float64)
        better = (now < self._least) | self._last
        self._least[better], self.epoch[better] = now[better], epoch
        for best, weights in zip(self._best, self._weights, strict=True):
            mine = better.to(weights.device)
            best[mine] = weights[mine]

    @torch.no_grad()
    def go_back(self) -> None:
        """The weights of each run become those of the epoch that it keeps."""
        for best, weights in zip(self._best, self._weights, strict=True):
            weights.copy_(best)
