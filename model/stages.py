"""The losses of the paper, one class a stage: read them beside equations 1 to 6.

Reads and writes nothing. Each stage holds the networks that learn in it, and gives the loss of every item of a batch,
(runs, batch); `model.fit` averages and minimises. What a frozen network makes of the items (the teacher's latent, its
answer) is computed once and comes with the batch.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.data import Batch
from model.networks import Noise, StackedMLP


class Outcome(NamedTuple):
    """What a stage makes of a batch: each item's loss (R, B), which is minimised.

    Where a stage answers, also the task's own part of the loss, l(y', y), (R, B), and the answers (R, B, outputs).
    """

    loss: Tensor
    task_loss: Tensor | None = None
    answer: Tensor | None = None


class Wiring(NamedTuple):
    """A stage as data, for `model.compiled`: its networks, and the weights of the parts of its loss.

    The encoder sees `modalities`; a head (or the decoder) may stand on it, a student that sees `beside` next to it. The
    parts: of the task, l(y, y'); of reconstruction, |y - x|; of the latent, |z_i - z_f|, `relative` or not, z_f being
    the encoder's beside a student, else the batch's frozen `latent`; of imitation, equations 5 and 6.
    """

    encoder: StackedMLP
    modalities: tuple[str, ...]
    head: StackedMLP | None = None
    student: StackedMLP | None = None
    beside: tuple[str, ...] = ()
    task: float = 0.0
    reconstruction: float = 0.0
    latent: float = 0.0
    relative: bool = False
    imitation: float = 0.0
    temperature: float = 1.0

    @property
    def networks(self) -> list[StackedMLP | None]:
        """Encoder, head and student; None for what the stage has not."""
        return [self.encoder, self.head, self.student]


class Stage(nn.Module):
    """A stage of training: its parameters are what learns."""

    def forward(self, batch: Batch, noise: Noise | None = None) -> Outcome:
        """The losses of a batch; without `noise` nothing is dropped."""
        raise NotImplementedError

    @property
    def wiring(self) -> Wiring:
        """The same as data."""
        raise NotImplementedError


class Reconstruction(Stage):
    """Stage 1, equation 1: the teacher's encoder q and its decoder p learn |p(q(x)) - x|."""

    def __init__(self, teacher: StackedMLP, decoder: StackedMLP, modalities: tuple[str, ...]):
        super().__init__()
        self.teacher, self.decoder, self.modalities = teacher, decoder, modalities

    def forward(self, batch: Batch, noise: Noise | None = None) -> Outcome:
        z = self.teacher(batch.features(self.modalities, noise), noise)
        return Outcome(distance(self.decoder(z, noise), batch.features(self.modalities)))

    @property
    def wiring(self) -> Wiring:
        return Wiring(self.teacher, self.modalities, head=self.decoder, reconstruction=1.0)


class Landing(Stage):
    """Stage 2, equation 2: the student's encoder learns |z_i - sg(z_f)|, the teacher being frozen.

    The batch holds `latent`: the frozen teacher's z_f.
    """

    def __init__(self, student: StackedMLP, modality: str):
        super().__init__()
        self.student, self.modality = student, modality

    def forward(self, batch: Batch, noise: Noise | None = None) -> Outcome:
        z_i = self.student(batch.features((self.modality,), noise), noise)
        return Outcome(distance(z_i, batch.frozen("latent")))

    @property
    def wiring(self) -> Wiring:
        return Wiring(self.student, (self.modality,), latent=1.0)


class Joint(Stage):
    """Stage 3, equation 3: teacher, head and student together, l(y_f, y) + alpha |z_i - sg(z_f)|."""

    def __init__(
        self,
        teacher: StackedMLP,
        head: StackedMLP,
        student: StackedMLP,
        modalities: tuple[str, ...],
        modality: str,
        alpha: float,
        weighting: str = "equations",
        relative: bool = False,
    ):
        super().__init__()
        self.teacher, self.head, self.student = teacher, head, student
        self.modalities, self.modality = modalities, modality
        self.alpha, self.task_weight, self.relative = alpha, task_weight(alpha, weighting), relative

    def forward(self, batch: Batch, noise: Noise | None = None) -> Outcome:
        z_f = self.teacher(batch.features(self.modalities, noise), noise)
        z_i = self.student(batch.features((self.modality,), noise), noise)
        y_f = self.head(z_f, noise)
        of_task = task_loss(y_f, batch.target)
        loss = self.task_weight * of_task + self.alpha * latent_distance(z_i, z_f.detach(), self.relative)
        return Outcome(loss, of_task, y_f)

    @property
    def wiring(self) -> Wiring:
        return Wiring(
            self.teacher,
            self.modalities,
            head=self.head,
            student=self.student,
            beside=(self.modality,),
            task=self.task_weight,
            latent=self.alpha,
            relative=self.relative,
        )


class FineTuning(Stage):
    """Stage 4, equation 4: student and its copy of the head, l(y_i, y) + alpha |z_i - sg(z_f)|.

    The batch holds `latent`: the z_f of stage 3's teacher, which stands still. With an `imitation` a, equation 5 or 6
    takes the place of l(y_i, y): a part of it is the distance to what that teacher answers, the batch's `answer`.
    """

    def __init__(
        self,
        student: StackedMLP,
        head: StackedMLP,
        modality: str,
        alpha: float,
        weighting: str = "equations",
        relative: bool = False,
        imitation: float = 0.0,
        temperature: float = 1.0,
    ):
        super().__init__()
        self.student, self.head, self.modality = student, head, modality
        self.alpha, self.task_weight, self.relative = alpha, task_weight(alpha, weighting), relative
        self.imitation, self.temperature = imitation, temperature

    def forward(self, batch: Batch, noise: Noise | None = None) -> Outcome:
        z_i = self.student(batch.features((self.modality,), noise), noise)
        y_i = self.head(z_i, noise)
        of_task = task_loss(y_i, batch.target)
        told = taught_loss(y_i, of_task, batch, self.imitation, self.temperature) if self.imitation else of_task
        loss = self.task_weight * told
        if self.alpha != 0:
            loss = loss + self.alpha * latent_distance(z_i, batch.frozen("latent"), self.relative)
        return Outcome(loss, of_task, y_i)

    @property
    def wiring(self) -> Wiring:
        return Wiring(
            self.student,
            (self.modality,),
            head=self.head,
            task=self.task_weight * (1 - self.imitation),
            latent=self.alpha,
            relative=self.relative,
            imitation=self.task_weight * self.imitation,
            temperature=self.temperature,
        )


class Plain(Stage):
    """The unimodal and the multimodal baseline: encoder and head learn l(y_u, y)."""

    def __init__(self, encoder: StackedMLP, head: StackedMLP, modalities: tuple[str, ...]):
        super().__init__()
        self.encoder, self.head, self.modalities = encoder, head, modalities

    def forward(self, batch: Batch, noise: Noise | None = None) -> Outcome:
        y_u = self._answer(batch, noise)
        of_task = task_loss(y_u, batch.target)
        return Outcome(of_task, of_task, y_u)

    @property
    def wiring(self) -> Wiring:
        return Wiring(self.encoder, self.modalities, head=self.head, task=1.0)

    def _answer(self, batch: Batch, noise: Noise | None) -> Tensor:
        return self.head(self.encoder(batch.features(self.modalities, noise), noise), noise)


class Distillation(Plain):
    """Knowledge distillation, equations 5 and 6, from the multimodal network's answers y_m: the batch's `answer`."""

    def __init__(self, encoder: StackedMLP, head: StackedMLP, modality: str, alpha: float, temperature: float):
        super().__init__(encoder, head, (modality,))
        self.alpha, self.temperature = alpha, temperature

    def forward(self, batch: Batch, noise: Noise | None = None) -> Outcome:
        y_u = self._answer(batch, noise)
        of_task = task_loss(y_u, batch.target)
        return Outcome(taught_loss(y_u, of_task, batch, self.alpha, self.temperature), of_task, y_u)

    @property
    def wiring(self) -> Wiring:
        return super().wiring._replace(task=1 - self.alpha, imitation=self.alpha, temperature=self.temperature)


def taught_loss(answer: Tensor, of_task: Tensor, batch: Batch, a: float, temperature: float) -> Tensor:
    """Equations 5 and 6: (1 - a) of the task's loss and a of the distance to a teacher's answers; (R, B).

    Classification: a T^2 KL(softmax(z_u / T), softmax(z_m / T)) + (1 - a) CE(z_u, y), z being logits and the divergence
    that of the student from the teacher, sum over classes of p_m (log p_m - log p_u), as in Hinton et al. (2015).
    Regression: a |y_u / T - y_m / T| + (1 - a) |y_u - y|. The batch holds `answer`: the frozen y_m.
    """
    y_u, y_m = answer / temperature, batch.frozen("answer") / temperature
    if batch.target.is_floating_point():
        imitation = distance(y_u, y_m)
    else:
        log_p_u, log_p_m = F.log_softmax(y_u, -1), F.log_softmax(y_m, -1)
        imitation = temperature**2 * (log_p_m.exp() * (log_p_m - log_p_u)).sum(-1)
    return a * imitation + (1 - a) * of_task


def distance(a: Tensor, b: Tensor) -> Tensor:
    """|a - b| of the equations: the mean over features of the absolute difference; (R, B, F) twice -> (R, B)."""
    return (a - b).abs().mean(-1)


def latent_distance(z_i: Tensor, z_f: Tensor, relative: bool) -> Tensor:
    """|z_i - z_f| as in the equations; `relative`: in units of the mean |z_f| of the run, so that alpha has a scale."""
    apart = distance(z_i, z_f)
    return apart / z_f.abs().mean((1, 2)).unsqueeze(1) if relative else apart


def task_loss(answer: Tensor, target: Tensor) -> Tensor:
    """l(y', y): cross-entropy for class indices, absolute error for values; (R, B, outputs), (R, B) -> (R, B)."""
    if target.is_floating_point():
        return (answer.squeeze(-1) - target).abs()
    return torch.logsumexp(answer, -1) - answer.gather(-1, target.unsqueeze(-1)).squeeze(-1)


def task_weight(alpha: float, weighting: str) -> float:
    """The weight of the task's loss: 1 in the paper's equations, 1 - alpha in the published code."""
    return {"equations": 1.0, "published": 1 - alpha}[weighting]
