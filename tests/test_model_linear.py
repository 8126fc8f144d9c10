"""The linear baselines and the majority: fitted to training items, chosen on validation items."""

import numpy as np
import pytest

from model.data import Split
from model.linear import linear, majority

IDS = [f"item{number:02d}" for number in range(60)]
FEATURES = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
SPLIT = Split(0, np.arange(40), np.arange(40, 50), np.arange(50, 60))


def predicted(target, classification=True):
    ids, runs, values = linear(FEATURES, np.asarray(target, dtype=np.float64), classification, [SPLIT], IDS, False)
    assert ids == IDS[50:] and set(runs) == {0}
    return np.array(values)


def test_a_linear_signal_is_found():
    clear = np.abs(FEATURES[50:, 0]) > 0.1
    assert np.array_equal(predicted(FEATURES[:, 0] > 0)[clear], FEATURES[50:, 0][clear] > 0)
    assert predicted(FEATURES[:, 0], classification=False) == pytest.approx(FEATURES[50:, 0], abs=0.1)


def test_a_class_that_is_in_the_validation_items_alone_is_no_obstacle():
    target = (FEATURES[:, 0] > 0) * 2.0
    usual = predicted(target)
    target[45] = 1.0
    assert np.array_equal(predicted(target), usual)


def test_training_items_of_one_class_give_that_class():
    target = np.ones(60)
    target[45] = 0.0
    assert predicted(target).tolist() == [1.0] * 10


def test_the_majority_is_that_of_the_training_items():
    target = np.array([0.0] * 19 + [1.0] * 21 + [0.0] * 20)
    assert set(majority(target, True, [SPLIT], IDS)[2]) == {1.0}
    assert majority(target, False, [SPLIT], IDS)[2] == pytest.approx([21 / 40] * 10)
