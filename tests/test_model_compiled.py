"""Compiled steps leave the weights, and report the losses, that autograd's do."""

import copy
import itertools
import os
import subprocess
import sys

import pytest
import torch

from model.curves import Label
from model.data import BatchPlan, Split, Stack
from model.fit import make_noise
from model.stages import FineTuning, Joint
from model.steps import ByAutograd, Compiled
from tests.conftest import ROOT
from tests.test_model_stack import (
    BOTH,
    EPOCHS,
    KINDS,
    RUNS,
    corpus,
    in_double,
    network,
    settings,
    splits,
    stack_of,
    stage_of,
    stand_still,
)

pytestmark = pytest.mark.usefixtures("one_thread")

BEYOND_THE_PAPER = {"dropout": 0.4, "input_dropout": 0.3, "weight_decay": 0.5, "averaging": 0.9}


def assert_alike(stack, stage, epochs=EPOCHS, **more):
    """Both ways, after the same steps: the same losses, running means and weights, all of them moved."""
    told, left = settings(hidden=16, **more), []
    for way in (Compiled, ByAutograd):
        own = copy.deepcopy(stage)
        steps = way(own, stack, told, make_noise(stack, told, 0, Label(*"abcd")))
        losses = [steps.make(epoch) for epoch in itertools.islice(stack.epochs(0, "x"), epochs)]
        weights = {name: value.clone() for name, value in own.state_dict().items()}
        steps.average.keep()
        left.append((torch.stack(losses).float(), weights, own.state_dict()))
    (losses, *found), (expected, *others) = left
    assert torch.allclose(losses, expected, rtol=1e-5, atol=1e-6)
    for name, start in stage.state_dict().items():
        for one, other in zip(found, others, strict=True):
            assert torch.allclose(one[name], other[name], rtol=0, atol=1e-5), name
            assert not torch.equal(one[name], start), name


@pytest.mark.parametrize("more", [{}, BEYOND_THE_PAPER], ids=["paper", "beyond"])
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_stage(kind, task, more):
    stack = stand_still(stack_of(task), kind)
    assert_alike(*in_double(stack, stage_of(kind, stack.corpus.outputs, bool(more))), **more)


@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_in_the_precision_that_is_used(kind):
    assert_alike(stand_still(stack_of(), kind), stage_of(kind, 2, True), epochs=1, **BEYOND_THE_PAPER)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("relative, weighting", [(True, "equations"), (False, "published")])
def test_the_other_latent_losses(relative, weighting, alpha):
    stage = FineTuning(network(12, 8, 3), network(8, 2, 4), "lexical", alpha, weighting, relative)
    assert_alike(*in_double(stand_still(stack_of(), "stage4"), stage))
    stage = FineTuning(network(12, 8, 3), network(8, 2, 4), "lexical", alpha, weighting, relative, 0.3, 7.0)
    assert_alike(*in_double(stand_still(stack_of(), "stage4 and answers"), stage))
    if alpha:  # without, nothing moves the student
        stage = Joint(
            network(17, 8, 1), network(8, 2, 4), network(12, 8, 3), BOTH, "lexical", alpha, weighting, relative
        )
        assert_alike(*in_double(stack_of(), stage))


def test_a_student_that_sees_what_its_teacher_sees_has_noise_of_its_own():
    stack = Stack(corpus(), splits(), ("lexical",), settings(), BatchPlan.of(splits(), 32), torch.device("cpu"))
    stage = Joint(network(12, 8, 1), network(8, 2, 4), network(12, 8, 3), ("lexical",), "lexical", 0.3)
    assert_alike(*in_double(stack, stage), **BEYOND_THE_PAPER)


def test_runs_of_unlike_size_and_classes_that_weigh_alike():
    uneven = splits()
    uneven[0] = Split(0, uneven[0].train[:-7], uneven[0].val, uneven[0].test)
    stack = Stack(corpus(), uneven, BOTH, settings(balance=True), BatchPlan.of(uneven, 32), torch.device("cpu"))
    assert_alike(*in_double(stand_still(stack, "stage4"), stage_of("stage4", 2, False)))


def test_an_epoch_in_many_parts_is_the_same_epoch(monkeypatch):
    told = settings(hidden=16, **BEYOND_THE_PAPER)
    left = []
    for drawn_at_once in (1, 1 << 20):
        monkeypatch.setattr(Compiled, "DRAWN_AT_ONCE", drawn_at_once)
        stack, stage = stack_of(), stage_of("stage3", 2, True)
        steps = Compiled(stage, stack, told, make_noise(stack, told, 0, Label(*"abcd")))
        losses = [steps.make(epoch) for epoch in itertools.islice(stack.epochs(0, "x"), 5)]
        left.append((torch.stack(losses), stage.state_dict()))
    (one, weights), (other, others) = left
    assert one.shape == (5, RUNS) and torch.equal(one, other)
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_evaluation_and_prediction_load_no_compiler():
    code = "import sys, model.evaluate, model.predict; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


A_TRAINING = """
import hashlib
from tests.test_model_compiled import *
stack = stack_of(hidden=16)
stage = stage_of("stage3", 2, False)
told = settings(hidden=16, **BEYOND_THE_PAPER)
steps = Compiled(stage, stack, told, make_noise(stack, told, 0, Label(*"abcd")))
for epoch in itertools.islice(stack.epochs(0, "x"), EPOCHS):
    steps.make(epoch)
print(hashlib.sha256(b"".join(value.numpy().tobytes() for value in stage.state_dict().values())).hexdigest())
"""


@pytest.mark.slow
def test_the_process_that_compiles_gives_the_same_bits_as_those_that_come_after(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    first, second = (
        subprocess.run([sys.executable, "-c", A_TRAINING], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert first.stdout == second.stdout != ""
