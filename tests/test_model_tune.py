"""Tuning sees a run's own training and validation items, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from model import tune
from model.data import Corpus, Split
from model.settings import PAPER, merge, of_stages
from model.train import Task
from model.variants import STUDENTS

STAGES = ("unimodal", "stage1", "stage2", "stage3", "stage4")
ITEMS = 60

pytestmark = pytest.mark.usefixtures("one_thread")


def corpus() -> Corpus:
    rng = np.random.default_rng(0)
    features = {
        name: torch.from_numpy(rng.normal(size=(ITEMS, width)).astype(np.float32))
        for name, width in (("lexical", 6), ("acoustic", 3))
    }
    target = (features["lexical"][:, 0] + features["acoustic"][:, 0] > 0).long()
    ids = [f"item{number:02d}" for number in range(ITEMS)]
    groups = np.array([f"speaker{number // 2:02d}" for number in range(ITEMS)])
    return Corpus("toy", ids, groups, target, "classification", ["no", "yes"], features)


def splits() -> list[Split]:
    orders = [np.random.default_rng(run).permutation(ITEMS) for run in range(2)]
    return [Split(run, *(np.sort(part) for part in np.split(order, [40, 50]))) for run, order in enumerate(orders)]


def task(own: Corpus) -> Task:
    settings = merge(PAPER, {"epochs": 8, "hidden": 8, "latent": 4, "batch_size": 32, "averaging": 0.0})
    return Task(own, splits(), of_stages(settings, STAGES, STUDENTS), 0, torch.device("cpu"))


def choice(own: Corpus) -> tune.Choice:
    chosen = [tune.choose(task(own), student, trials=2, grouped=False) for student in STUDENTS]
    return {**chosen[0], **chosen[1]}


def test_a_choice_covers_every_run_and_says_what_stage_4_is_told():
    found = choice(corpus())
    assert set(found) == set(STUDENTS) and all(set(runs) == {0, 1} for runs in found.values())
    for told in (told for runs in found.values() for told in runs.values()):
        assert told["epochs"] in (3, 5, 6, 8)
        assert told["stage4"]["alpha"] in tune.ALPHAS
        assert told["stage4"]["epochs"] in (0, 4, 8)
        assert told["stage4"]["learning_rate"] in (PAPER["learning_rate"], PAPER["learning_rate"] * 0.3)


def test_what_a_run_is_tested_on_plays_no_part_in_its_choice():
    usual, poisoned = corpus(), corpus()
    tested = splits()[0].test
    poisoned.target[tested] = 1 - poisoned.target[tested]
    for values in poisoned.features.values():
        values[tested] = 1e3
    first, second = choice(usual), choice(poisoned)
    assert all(first[student][0] == second[student][0] for student in STUDENTS)
    assert first != second  # the other run trains on these items


@pytest.mark.parametrize("grouped", [False, True])
def test_inner_folds_hold_out_every_item_but_the_tested_once(grouped):
    own, split = corpus(), splits()[0]
    inner = tune.inner_splits(own, split, 3, grouped, 0)
    held_out = np.sort(np.concatenate([one.val for one in inner]))
    assert held_out.tolist() == np.sort(np.concatenate([split.train, split.val])).tolist()
    for one in inner:
        assert not np.isin(one.train, split.test).any() and not np.isin(one.train, one.val).any()
        if grouped:
            assert not np.isin(own.groups[one.train], own.groups[one.val]).any()


def test_what_was_chosen_for_a_stage_is_told_to_that_stage_alone():
    chosen = {"lexical": {0: {"learning_rate": 0.5, "stage4": {"alpha": 0.9, "learning_rate": 0.05}}}}
    told = replace(task(corpus()), choice=chosen)._told
    assert told("stage4.lexical", 0)["alpha"] == 0.9 and told("stage4.lexical", 0)["learning_rate"] == 0.05
    assert told("stage3.lexical", 0)["alpha"] == 0.3 and told("stage3.lexical", 0)["learning_rate"] == 0.5
    assert "stage4" not in told("stage3.lexical", 0)
    for stage, run in (("stage4.lexical", 1), ("stage4.acoustic", 0)):
        assert told(stage, run) == task(corpus()).settings[stage]


def test_the_usual_settings_stay_where_the_gain_is_not_significant():
    usual, other = (0, 8), (1, 8)
    clear = [{(0, 8): [1.0, 1.1, 1.2]}, {(0, 8): [0.8, 0.9, 1.1]}]
    unclear = [{(0, 8): [1.0, 1.1, 1.2]}, {(0, 8): [0.2, 1.4, 1.6]}]
    above_its_error = [{(0, 8): [1.0, 1.1, 1.2]}, {(0, 8): [0.7, 1.0, 1.2]}]  # t = 1.5; of three folds, 2.92 is asked
    assert tune._best([usual, other], usual, clear, 0) == other
    for costs in (unclear, above_its_error):
        assert tune._best([usual, other], usual, costs, 0) == usual


def test_two_groups_outside_the_test_part_make_two_inner_folds():
    own = corpus()
    own.groups[:] = np.repeat(["a", "b", "c"], ITEMS // 3)
    split = Split(1, np.arange(20), np.arange(20, 40), np.arange(40, 60))
    inner = tune.inner_splits(own, split, 3, True, 0)
    assert sorted(one.val.tolist() for one in inner) == [list(range(20)), list(range(20, 40))]
    assert all(one.train.size == 20 for one in inner)
    found = tune.choose(replace(task(own), splits=[split]), "lexical", trials=1, grouped=True)
    assert set(found["lexical"]) == {1}
