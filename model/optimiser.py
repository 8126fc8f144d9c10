"""What moves a stage's weights: Adam, and running means of the weights.

Takes tensors that carry their gradients; changes them where they are. Compiled steps have their own Adam.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from model.stages import Stage


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

    def of(self, weights: Tensor | None) -> Tensor | None:
        """The running mean of these weights, if there is one."""
        found = (mean for own, mean in zip(self._parameters, self._means, strict=True) if own is weights)
        return next(found, None)

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
