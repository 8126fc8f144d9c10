"""Equations 1 to 6 against values worked out by hand, on networks whose answer is known."""

import math

import pytest
import torch

from model.stages import (
    Distillation,
    FineTuning,
    Joint,
    Landing,
    Plain,
    Reconstruction,
    distance,
    latent_distance,
    task_loss,
)


class Gives(torch.nn.Module):
    """A network that multiplies by a number, or by several: its answer is known, and it can learn."""

    def __init__(self, *factors: float):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factors))

    def forward(self, x, noise=None):
        return x * self.factor


class Items:
    """A batch of one run and two items, two features each: the first is lexical, the second acoustic."""

    columns = {("lexical",): slice(0, 1), ("acoustic",): slice(1, 2), ("lexical", "acoustic"): slice(0, 2)}  # noqa: RUF012

    def __init__(self, x, target, **frozen):
        self.x, self.target, self._frozen = torch.tensor([x]), torch.tensor([target]), frozen

    def features(self, modalities, noise=None):
        return self.x[..., self.columns[modalities]]

    def frozen(self, name):
        return torch.tensor([self._frozen[name]])


BOTH = ("lexical", "acoustic")


def test_equation_1_is_the_mean_absolute_error_of_the_reconstruction():
    stage = Reconstruction(Gives(2.0), Gives(3.0), BOTH)  # p(q(x)) = 6 x, so |6 x - x| = 5 |x|
    loss = stage(Items([[1.0, -2.0], [0.0, 4.0]], [0, 0])).loss
    assert loss.tolist() == [[7.5, 10.0]]


def test_equation_2_is_the_distance_to_the_frozen_latent():
    stage = Landing(Gives(2.0), "lexical")
    loss = stage(Items([[1.0, 9.0], [3.0, 9.0]], [0, 0], latent=[[5.0], [5.5]])).loss
    assert loss.tolist() == [[3.0, 0.5]]  # |2 - 5|, |6 - 5.5|


def test_equation_3_weighs_the_task_by_1_and_the_latents_by_alpha():
    stage = Joint(Gives(2.0), Gives(1.0), Gives(1.0), ("acoustic",), "lexical", alpha=0.3)
    loss = stage(Items([[1.0, 3.0], [0.5, 0.25]], [5.0, 0.0])).loss
    # z_f = 6 and .5, z_i = 1 and .5, y_f = z_f: |6 - 5| + .3 |1 - 6|, |.5 - 0| + .3 |.5 - .5|
    assert loss[0].tolist() == pytest.approx([1 + 0.3 * 5, 0.5])


def test_equation_3_stops_the_gradient_between_the_latents():
    stage = Joint(Gives(2.0), Gives(1.0), Gives(1.0), ("acoustic",), "lexical", alpha=0.3)
    batch = Items([[1.0, 3.0], [0.5, 0.25]], [5.0, 0.0])
    stage(batch).loss.sum().backward()
    alone = Gives(2.0)
    task_loss(alone(batch.features(("acoustic",))), batch.target).sum().backward()
    assert stage.teacher.factor.grad == alone.factor.grad  # the student does not move the teacher
    assert stage.student.factor.grad == pytest.approx(0.3 * -1.0)  # nor the task the student


def test_equation_4_trains_student_and_head_near_the_teacher():
    stage = FineTuning(Gives(2.0), Gives(3.0), "lexical", alpha=0.1)
    loss = stage(Items([[1.0, 0.0], [2.0, 0.0]], [5.0, 12.0], latent=[[4.0], [4.0]])).loss
    assert loss[0].tolist() == pytest.approx([1 + 0.1 * 2, 0.0])  # |6 - 5| + .1 |2 - 4|, |12 - 12| + .1 |4 - 4|


def test_with_an_imitation_equation_5_or_6_takes_the_place_of_the_tasks_loss_in_equation_4():
    told = {"alpha": 0.1, "imitation": 0.3, "temperature": 7.0}
    stage = FineTuning(Gives(2.0), Gives(3.0), "lexical", **told)
    batch = Items([[1.0, 0.0], [2.0, 0.0]], [5.0, 12.0], latent=[[4.0], [4.0]], answer=[[2.5], [12.0]])
    # y_i = 6 and 12: .3 |6 - 2.5| / 7 + .7 |6 - 5| + .1 |2 - 4|, and nothing
    assert stage(batch).loss[0].tolist() == pytest.approx([0.15 + 0.7 + 0.2, 0.0])
    assert stage(batch).task_loss[0].tolist() == pytest.approx([1.0, 0.0])  # the task's own stays comparable
    published = FineTuning(Gives(2.0), Gives(3.0), "lexical", weighting="published", **told)
    assert published(batch).loss[0].tolist() == pytest.approx([0.9 * 0.85 + 0.2, 0.0])

    classes = Items([[2.0, 0.0]], [0], latent=[[1.0]], answer=[[0.0, 7.0]])
    head = Gives(1.0, 0.0)  # logits 2 and 0
    stage = FineTuning(Gives(1.0), head, "lexical", **told)
    distilled = Distillation(Gives(1.0), head, "lexical", alpha=0.3, temperature=7.0)
    assert stage(classes).loss.item() == pytest.approx(distilled(classes).loss.item() + 0.1 * abs(2.0 - 1.0))


def test_the_published_code_weighs_the_task_by_1_minus_alpha():
    batch = Items([[1.0, 0.0], [2.0, 0.0]], [5.0, 12.0], latent=[[4.0], [4.0]])
    published = FineTuning(Gives(2.0), Gives(3.0), "lexical", alpha=0.1, weighting="published")
    assert published(batch).loss[0].tolist() == pytest.approx([0.9 * 1 + 0.1 * 2, 0.0])
    joint = Joint(Gives(2.0), Gives(1.0), Gives(1.0), ("acoustic",), "lexical", 0.3, weighting="published")
    assert joint(Items([[1.0, 3.0], [0.5, 0.25]], [5.0, 0.0])).loss[0].tolist() == pytest.approx([2.2, 0.35])


def test_a_relative_latent_loss_is_measured_in_the_teachers_own_unit():
    near, far = torch.tensor([[[1.0], [2.0]]]), torch.tensor([[[3.0], [5.0]]])
    assert latent_distance(near, far, relative=True)[0].tolist() == pytest.approx([2 / 4, 3 / 4])
    assert torch.allclose(latent_distance(10 * near, 10 * far, True), latent_distance(near, far, True))
    assert torch.equal(latent_distance(near, far, relative=False), distance(near, far))


def test_equation_5_mixes_the_softened_divergence_with_the_cross_entropy():
    stage = Distillation(Gives(1.0), Gives(1.0), "lexical", alpha=0.3, temperature=7.0)
    stage.modalities = BOTH  # two features stand for two logits
    loss = stage(Items([[2.0, 0.0]], [0], answer=[[0.0, 7.0]])).loss
    p_m = 1 / (1 + math.e), math.e / (1 + math.e)  # softmax of (0, 7) / 7
    p_u = math.exp(2 / 7) / (1 + math.exp(2 / 7)), 1 / (1 + math.exp(2 / 7))
    divergence = sum(m * math.log(m / u) for m, u in zip(p_m, p_u, strict=True))
    cross_entropy = math.log(1 + math.exp(-2.0))
    assert loss.item() == pytest.approx(0.3 * 49 * divergence + 0.7 * cross_entropy, rel=1e-5)


def test_equation_6_divides_both_values_by_the_temperature():
    stage = Distillation(Gives(1.0), Gives(1.0), "lexical", alpha=0.3, temperature=7.0)
    loss = stage(Items([[0.5, 0.0]], [0.75], answer=[[1.2]])).loss
    assert loss.item() == pytest.approx(0.3 * 0.7 / 7 + 0.7 * 0.25)


def test_the_loss_of_the_task_is_cross_entropy_for_classes_and_absolute_error_for_values():
    answer = torch.tensor([[[1.0, 2.0, 0.5]]])
    classes = torch.tensor([[2]])
    assert task_loss(answer, classes).item() == pytest.approx(
        torch.nn.functional.cross_entropy(answer[0], classes[0]).item()
    )
    assert task_loss(torch.tensor([[[0.2]]]), torch.tensor([[0.5]])).item() == pytest.approx(0.3)
    plain = Plain(Gives(1.0), Gives(1.0), ("lexical",))
    assert plain(Items([[0.25, 9.0]], [1.0])).loss.tolist() == [[0.75]]
