"""Metrics against scikit-learn, p-values against counting, tables as data."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from sklearn.metrics import f1_score, r2_score

from model import experiments, tables
from model.metrics import confusion, f1_of_counts, macro_f1, r2
from model.statistics import holm, interval, sign_flip_p, swap_p_counts, swap_p_errors
from model.tables import Truth
from model.variants import STUDENTS

CORPORA = {
    "ted": ("lexical", "acoustic"),
    "iemocap": ("lexical", "acoustic", "visual"),
    "mit": ("lexical", "acoustic"),
}
labels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@budget(deadline=None, max_examples=100)
@given(labels)
def test_macro_f1_is_that_of_scikit_learn(pairs):
    target, predicted = np.array(pairs).T
    assert macro_f1(target, predicted) == pytest.approx(f1_score(target, predicted, average="macro"))


@budget(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(-1, 2)), min_size=3, max_size=40))
def test_r2_is_that_of_scikit_learn(pairs):
    target, predicted = np.array(pairs).T
    if target.std() > 1e-3:
        assert r2(target, predicted) == pytest.approx(r2_score(target, predicted))


def test_the_interval_is_students():
    low, high = interval([0.5, 0.6, 0.7])
    assert (low, high) == pytest.approx(
        (0.6 - 4.3027 * 0.1 / math.sqrt(3), 0.6 + 4.3027 * 0.1 / math.sqrt(3)), rel=1e-4
    )
    assert all(map(math.isnan, interval([0.5])))


def test_sign_flips_are_counted_exactly_for_few_runs_and_drawn_for_many():
    differences = [0.3, 0.1, -0.05, 0.2, 0.15]
    flips = np.abs(np.array(list(itertools.product((1, -1), repeat=5))) @ differences)
    assert sign_flip_p(differences) == (flips >= sum(differences) - 1e-12).mean()
    assert sign_flip_p([0.1] * 10) == 2 / 1024
    assert sign_flip_p([0.1] * 20) <= 2e-4
    assert sign_flip_p([0.1, -0.1] * 10) > 0.9


def test_swapping_groups_finds_a_real_difference_and_no_other():
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, 300)
    good = np.where(rng.random(300) < 0.8, target, 1 - target)
    bad = np.where(rng.random(300) < 0.6, target, 1 - target)
    alike = np.where(rng.random(300) < 0.8, target, 1 - target)
    counts = [np.stack([confusion(target[[i]], p[[i]], 2) for i in range(300)])[:, None] for p in (good, bad, alike)]
    assert swap_p_counts(counts[0], counts[1]) < 0.001
    assert swap_p_counts(counts[0], counts[2]) > 0.05
    errors = [rng.random((200, 2)) * scale for scale in (1.0, 1.5, 1.0)]
    assert swap_p_errors(errors[0], errors[1]) < 0.001
    assert swap_p_errors(errors[0], errors[2]) > 0.05


@budget(deadline=None, max_examples=30)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.sampled_from([1e-9, 1.0, 1e9]))
def test_a_p_value_has_no_unit(differences, scale):
    differences = np.round(differences, 3)
    p = sign_flip_p(differences)
    assert sign_flip_p(differences * scale) == p >= 2 / 2 ** len(differences)
    errors = np.abs(differences)[:, None]
    assert swap_p_errors(errors * scale, 0 * errors) == swap_p_errors(errors, 0 * errors)


def test_no_difference_at_all_is_not_significant():
    assert sign_flip_p([0.0] * 10) == sign_flip_p([0.0] * 20) == 1.0
    alike = np.ones((6, 2))
    assert swap_p_errors(alike, alike) == 1.0


def test_the_statistic_that_is_swapped_is_the_one_that_is_reported():
    target, predicted = np.array([0, 1, 1, 0]), np.array([0, 1, 0, 0])
    counts = np.stack([confusion(target[[i]], predicted[[i]], 2) for i in range(4)])
    assert f1_of_counts(counts.sum(0)) == pytest.approx(macro_f1(target, predicted))


def test_holm_multiplies_the_smallest_by_the_number_of_comparisons():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_every_cell_of_the_papers_tables_is_there_with_its_value():
    cells = experiments.cells(CORPORA, experiments.TABLES)
    paper = {
        (cell.table, cell.corpus, cell.variant, cell.source): cell.paper for cell in cells if cell.paper is not None
    }
    assert len(paper) == 2 * 18 + 2 * 6 + 2 * 6
    assert paper[1, "ted", "ours", None] == 0.531
    assert paper[2, "mit", "multimodal", None] == 0.397
    assert paper[3, "iemocap", "distilled", None] == 0.824
    assert paper[5, "iemocap", "ours_other_pretrain", "ted"] == 0.841  # TED -> IEMOCAP
    assert paper[6, "ted", "ours_no_pretrain", "iemocap"] == 0.526


def test_tables_5_and_6_hold_every_ordered_pair_with_a_teacher_that_both_have():
    cells = [cell for cell in experiments.cells(CORPORA, (5,)) if cell.variant == "ours_other_pretrain"]
    assert {(cell.source, cell.corpus) for cell in cells} == set(itertools.permutations(CORPORA, 2))
    assert {cell.teacher for cell in cells} == {("lexical", "acoustic")}
    assert experiments.cells({**CORPORA, "text": ("lexical",)}, (5,)) == experiments.cells(CORPORA, (5,))


def test_a_corpus_of_one_modality_has_the_rows_that_need_no_teacher():
    cells = experiments.cells({"own": ("lexical",)}, experiments.TABLES)
    assert {(cell.table, cell.variant) for cell in cells} == {
        (1, "unimodal"),
        (1, "linear"),
        (1, "majority"),
        (3, "unimodal"),
    }


def test_a_grouped_run_is_scored_over_all_held_out_predictions_of_a_repeat():
    truth = Truth(
        {"a": 0, "b": 1, "c": 2, "d": 3}, np.array([0.0, 1.0, 0.25, 0.5]), np.array([0, 0, 1, 2]), None, folds=2
    )
    ids, runs = list("abcdabcd"), np.array([0, 0, 1, 1, 2, 2, 3, 3])
    predicted = np.array([0.1, 0.8, 0.25, 0.5, 0.0, 1.0, 0.25, 0.75])
    scored = truth.score(ids, runs, predicted)
    assert scored.values == pytest.approx(
        [r2_score(truth.target, predicted[:4]), r2_score(truth.target, predicted[4:])]
    )
    assert scored.parts.sum(0) == pytest.approx([0.01 + 0.04, 0.0625])


def test_a_row_that_was_not_trained_says_why_and_has_no_number():
    cell = next(c for c in experiments.cells(CORPORA, (5,)) if c.variant == "ours_other_pretrain")
    truth = Truth({"a": 0}, np.array([0]), np.array([0]), 2, 1)
    why = {f"{student}/ours_other_pretrain.{cell.source}": f"{student} widths differ" for student in STUDENTS}
    rows = tables.rows([cell], {(cell.corpus, "paper", "paper"): tables.Results(truth, {}, why)})
    assert rows[0]["note"] == "lexical widths differ" and rows[0]["runs"] == 0
    assert tables.printable(rows[0])["mean"] == ""
    assert tuple(rows[0])[:12] == (*tables.COLUMNS[:12],)


def scored(values):
    return tables.Scored(np.zeros((1, len(values), 2, 2)), np.array(values))


def test_a_comparison_that_stands_beside_several_corpora_is_corrected_for_once():
    truth, rng = Truth({"a": 0}, np.array([0]), np.array([0]), 2, 1), np.random.default_rng(0)
    cells = experiments.cells(CORPORA, (5,))
    results = {}
    for corpus in CORPORA:
        base = rng.normal(0.6, 0.01, 8)
        found = {("lexical", "unimodal", "x"): scored(base)}
        for cell in (cell for cell in cells if cell.corpus == corpus):
            if tables.key_of(cell) not in found:
                found[tables.key_of(cell)] = scored(base + rng.normal(0.01, 0.01, 8))
        results[corpus, "paper", "paper"] = tables.Results(truth, found, {})
    raw = {
        (corpus, key): sign_flip_p(value.values - result.scored["lexical", "unimodal", "x"].values)
        for (corpus, _, _), result in results.items()
        for key, value in result.scored.items()
        if key[1] != "unimodal"
    }
    assert len(raw) == 12 and len(cells) == 18
    corrected = dict(zip(raw, holm(list(raw.values())), strict=True))
    for cell, row in zip(cells, tables.rows(cells, results), strict=True):
        assert row["p"] == pytest.approx(corrected[cell.corpus, tables.key_of(cell)])


@pytest.mark.parametrize(("protocol", "groups"), [("paper", 1), ("grouped", 3)])
def test_counts_are_kept_by_group_where_groups_change_sides_and_nowhere_else(protocol, groups):
    frame = pd.DataFrame(
        {"item_id": ["b", "a", "c", "a"], "group": ["y", "x", "z", "x"], "target": [1.0, 0.0, 1.0, 0.0]}
    )
    made_by = {"protocol": protocol, "task": "classification", "classes": ["no", "yes"], "folds": 1}
    truth = tables._truth(made_by, frame)
    parts = truth.score(["a", "b", "c"], np.array([0, 0, 0]), np.array([0, 1, 0])).parts
    assert parts.shape == (groups, 1, 2, 2) and parts.sum() == 3
