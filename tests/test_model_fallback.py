"""A run whose teacher has learned nothing keeps the student that was trained alone; no other run does."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from model import evaluate
from model.fallback import LEARNED, falling_back, has_learned
from model.variants import OURS
from tests.test_model_stack import BOTH, every_stage, settings, splits, stack_of, trainer

pytestmark = pytest.mark.usefixtures("one_thread")


def answers(stack, of_class, knowing=0.0, noise=0.0):
    """Answers (R, N, outputs) around a constant, that know something of the target and make mistakes besides."""
    generator = torch.Generator().manual_seed(0)
    target = stack.target
    if stack.corpus.task == "classification":
        known = torch.nn.functional.one_hot(target, 2).float()
        constant = torch.tensor([0.0, of_class])
    else:
        known = (target - target.mean()).unsqueeze(-1)
        constant = target.median().reshape(1)
    return constant + knowing * known + noise * known.std() * torch.randn(known.shape, generator=generator)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_teacher_that_answers_alike_whatever_it_sees_has_learned_nothing(task):
    stack = stack_of(task, 2)
    assert has_learned(answers(stack, 0.0), stack).tolist() == [False, False]
    assert has_learned(answers(stack, 3.0), stack).tolist() == [False, False]
    assert has_learned(answers(stack, 0.0, noise=1.0), stack).tolist() == [False, False]


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_teacher_that_errs_less_than_a_constant_has_learned_something(task):
    stack = stack_of(task, 2)
    assert has_learned(answers(stack, 0.0, knowing=0.8), stack).tolist() == [True, True]
    assert has_learned(answers(stack, 0.0, knowing=0.8, noise=0.1), stack).tolist() == [True, True]


@budget(deadline=None, max_examples=25)
@given(st.integers(0, 2**31), st.floats(0, 1), st.sampled_from(["classification", "regression"]))
def test_test_items_have_no_part_in_the_verdict(seed, knowing, task):
    stack = stack_of(task, 2)
    before = answers(stack, 0.0, knowing, noise=0.3)
    after = before.clone()
    for run, split in enumerate(stack.splits):
        after[run, split.test] = torch.from_numpy(
            np.random.default_rng(seed).normal(0, 9, after[run, split.test].shape)
        ).float()
    assert has_learned(before, stack).tolist() == has_learned(after, stack).tolist()


def test_where_classes_are_balanced_a_constant_gains_nothing_from_the_larger_one():
    stack = stack_of("classification", 2, balance=True)
    stack.target[:] = (torch.arange(stack.items) % 10 == 0).long()
    stack.weights[:] = torch.where(stack.target == 1, 5.0, 5 / 9)
    assert has_learned(answers(stack, -2.2), stack).tolist() == [False, False]
    assert has_learned(answers(stack, 0.0, knowing=0.8), stack).tolist() == [True, True]


def test_only_where_stage_4_is_told_to_do_runs_fall_back():
    stage3 = {f"pretrained/{LEARNED}": torch.tensor([True, False, False])}
    assert falling_back(stage3, "pretrained", {"fall_back": True}) == [1, 2]
    assert falling_back(stage3, "pretrained", {"fall_back": False}) == []


def test_a_run_that_falls_back_keeps_the_unimodal_networks_and_the_others_are_trained_as_ever():
    one = trainer(splits(4), stage4={**settings()["stage4"], "fall_back": True})
    every_stage(one)
    without = dict(one.trained.tensors)
    verdicts = torch.tensor([True, False, True, False])
    points = len(one.trained.curves)
    one.stage4(BOTH, "lexical", OURS, "pretrained", {**without, f"pretrained/{LEARNED}": verdicts}, without)
    assert {point.run for _, point in one.trained.curves[points:]} == {0, 2}
    for mine, theirs in (("student", "encoder"), ("head", "head")):
        for name in (key.rpartition(".")[2] for key in without if key.startswith(f"ours/{mine}.")):
            found = one.trained.tensors[f"ours/{mine}.{name}"]
            assert torch.equal(found[[1, 3]], without[f"lexical/unimodal/{theirs}.{name}"][[1, 3]])
            assert torch.equal(found[[0, 2]], without[f"ours/{mine}.{name}"][[0, 2]])


def test_where_no_teacher_has_learned_anything_nothing_is_trained():
    one = trainer(splits(2), stage4={**settings()["stage4"], "fall_back": True})
    every_stage(one)
    before, points = dict(one.trained.tensors), len(one.trained.curves)
    nothing = {**before, f"pretrained/{LEARNED}": torch.tensor([False, False])}
    one.stage4(BOTH, "lexical", OURS, "pretrained", nothing, before)
    assert len(one.trained.curves) == points
    assert torch.equal(one.trained.tensors["ours/head.weight1"], before["lexical/unimodal/head.weight1"])


def test_stage_3_says_of_each_run_whether_its_teacher_has_learned_something():
    """Dropout that leaves next to nothing teaches nothing; thirty epochs without it do."""
    verdict = f"pretrained/{LEARNED}"
    taught = every_stage(trainer(splits(), epochs=30, dropout=0.0, learning_rate=3e-3))
    assert taught[verdict].tolist() == [True] * 3
    untaught = every_stage(trainer(splits(), epochs=1, dropout=0.95, learning_rate=1e-5))
    assert untaught[verdict].tolist() == [False] * 3


def test_a_note_counts_the_trainings_that_fell_back():
    stage3 = {
        f"pretrained/{LEARNED}": torch.tensor([True, False, False]),
        f"other.ted/{LEARNED}": torch.tensor([True, True, True]),
    }
    stage4 = {"ours/head.weight1": torch.zeros(3), "ours_other_pretrain.ted/head.weight1": torch.zeros(3)}
    notes = evaluate.fallback_notes("acoustic", stage3, stage4, {"fall_back": True})
    assert notes == {
        "acoustic/ours": "the unimodal network in 2 of 3 trainings, whose teacher has learned nothing",
    }
    assert evaluate.fallback_notes("acoustic", stage3, stage4, {"fall_back": False}) == {}
