"""Splits: whole groups on one side, every item tested once in a repeat, the same for every variant."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st

from model.splits import PARTS, check, deal, folds_of, grouped_splits, paper_splits, sessions_of
from pipeline.errors import UserError

TRAIN, VAL, TEST = range(3)
groupings = st.lists(st.integers(0, 30), min_size=20, max_size=200).filter(lambda groups: len(set(groups)) >= 6)


@budget(deadline=None, max_examples=60)
@given(groupings, st.integers(2, 6), st.integers(1, 3), st.integers(0, 99))
def test_no_group_is_on_two_sides_and_each_item_is_tested_once_in_a_repeat(groups, folds, repeats, seed):
    names = [f"speaker{group}" for group in groups]
    made = list(grouped_splits(names, folds, repeats, seed))
    assert [assignment.run for assignment in made] == list(range(folds * repeats))
    check(made, names)
    assert folds_of(made) == folds
    for repeat in range(repeats):
        tested = sum((a.part == TEST).astype(int) for a in made[repeat * folds : (repeat + 1) * folds])
        assert (tested == 1).all()
    for assignment in made:
        sides = [{name for name, at in zip(names, assignment.part, strict=True) if at == part} for part in range(3)]
        assert all(sides) and not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


@budget(deadline=None, max_examples=40)
@given(st.integers(10, 500), st.integers(0, 99))
def test_the_paper_protocol_holds_out_a_tenth_twice_anew_for_each_run(items, seed):
    runs = list(paper_splits(items, 3, seed))
    check(runs, [str(item) for item in range(items)])
    for run in runs:
        held_out = max(1, round(items / 10))
        assert np.bincount(run.part, minlength=3).tolist() == [items - 2 * held_out, held_out, held_out]
    assert not np.array_equal(runs[0].part, runs[1].part) or items < 12


@budget(deadline=None, max_examples=40)
@given(st.integers(0, 99), st.integers(1, 9))
def test_a_run_keeps_its_split_when_more_runs_are_asked_for(seed, runs):
    few, many = list(paper_splits(60, runs, seed)), list(paper_splits(60, runs + 5, seed))
    assert all(np.array_equal(a.part, b.part) for a, b in zip(few, many, strict=False))


def test_folds_hold_nearly_the_same_number_of_items():
    sizes = np.array([2] * 69)
    fold_of = deal(sizes, 10, np.random.default_rng(0))
    assert set(np.bincount(fold_of, sizes).astype(int)) == {12, 14}


def test_a_catalog_with_sessions_leaves_one_session_out():
    sessions = [f"Ses{session}" for session in range(1, 6) for _ in range(40)]
    speakers = [f"{session}{'FM'[number % 2]}" for number, session in enumerate(sessions)]
    made = list(grouped_splits(speakers, 10, 2, 0, sessions))
    check(made, speakers)
    assert len(made) == 10 and folds_of(made) == 5
    for assignment in made:
        tested = {session for session, at in zip(sessions, assignment.part, strict=True) if at == TEST}
        assert len(tested) == 1
        heard = {speaker for speaker, at in zip(speakers, assignment.part, strict=True) if at == VAL}
        assert len(heard) == 1  # the validation part is a speaker, a tenth of the items
    validated = {tuple(assignment.part == VAL) for assignment in made[:5]}
    assert validated != {tuple(assignment.part == VAL) for assignment in made[5:]}


def test_sessions_are_read_by_item_and_a_missing_one_is_named():
    catalog = {"item_id": ["b", "a"], "session": ["2", "1"]}
    assert sessions_of(["a", "b"], catalog) == ["1", "2"]
    assert sessions_of(["a"], {"item_id": ["a"]}) is None
    with pytest.raises(UserError, match="no session for item 'c'"):
        sessions_of(["a", "c"], catalog)


@pytest.mark.parametrize(
    "groups, folds, sessions, message",
    [
        (["a", "a", "b"], 2, None, "2 groups are too few"),
        (["a", "b", "c"], 5, None, "training.folds is 5, and there are 3 groups: give 2 to 3"),
        (["a", "b", "c"], 2, ["1", "1", "1"], "holds only '1'"),
        (["a", "a", "b", "c"], 2, ["1", "2", "1", "2"], "group 'a' is in the sessions '1' and '2'"),
    ],
)
def test_what_cannot_be_split_says_what_to_change(groups, folds, sessions, message):
    with pytest.raises(UserError, match=message):
        list(grouped_splits(groups, folds, 1, 0, sessions))
    with pytest.raises(UserError, match="2 items are too few"):
        list(paper_splits(2, 1, 0))


def test_a_broken_split_is_caught():
    made = list(grouped_splits(list("aabbccddee"), 5, 1, 0))
    made[0].part[0] = (made[0].part[0] + 1) % 3
    with pytest.raises(AssertionError, match=r"splits a group|does not test every item once"):
        check(made, list("aabbccddee"))
    assert PARTS == ("train", "val", "test")


def test_a_speaker_of_most_of_the_items_is_never_the_validation_part():
    speakers = ["a"] * 50 + [f"s{number}" for number in range(10)]
    for assignment in grouped_splits(speakers, 4, 8, 0):
        assert (assignment.part == VAL).sum() < 10
    alone = ["a"] * 30 + ["b"] * 20 + ["c"] * 10
    for assignment in grouped_splits(alone, 3, 2, 0):
        assert {part: (assignment.part == part).sum() > 0 for part in range(3)} == dict.fromkeys(range(3), True)
        assert (assignment.part == VAL).sum() < (assignment.part == TRAIN).sum()
