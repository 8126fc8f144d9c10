"""The join: by key, never by position; pooled over time; what is missing is null and says why."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import dataset, store
from pipeline.errors import UserError
from tests.conftest import ROOT

MADE_BY = {"step": "features"}


def features_file(path, rows, items=None, width=2):
    """A feature file from (item_id, index, vector) rows."""
    table = pa.table(
        {
            "item_id": [row[0] for row in rows],
            "index": pa.array([row[1] for row in rows], pa.int32()),
            "start_s": pa.nulls(len(rows), pa.float64()),
            "end_s": pa.nulls(len(rows), pa.float64()),
            "embedding": pa.array([row[2] for row in rows], pa.list_(pa.float32(), width)),
        }
    )
    store.write(path, table, "features", {**MADE_BY, "items": items or {}})
    return path


def catalog(ids):
    return pa.table(
        {
            "item_id": pa.array(ids, pa.string()),
            "group": pa.array([f"g{item_id}" for item_id in ids], pa.string()),
            "target": pa.array([float(len(item_id)) for item_id in ids], pa.float64()),
            "label": pa.nulls(len(ids), pa.string()),
        }
    )


def test_an_items_rows_are_averaged_over_time(tmp_path):
    path = features_file(tmp_path / "f", [("b", 0, [1, 2]), ("a", 0, [0, 0]), ("b", 1, [3, 6])])
    pooled = dataset.pool([path])
    assert dict(zip(pooled.item_ids, pooled.vectors.tolist(), strict=True)) == {"a": [0, 0], "b": [2, 4]}
    assert dict(zip(pooled.item_ids, pooled.frames.tolist(), strict=True)) == {"a": 1, "b": 2}


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=4)),
    st.randoms(use_true_random=False),
)
def test_shuffled_files_and_catalogs_give_the_same_dataset(tmp_path_factory, values, random):
    rows = [(item_id, index, [x, -x]) for item_id, xs in values.items() for index, x in enumerate(xs)]
    ids = list("abcdefgh")
    folder = tmp_path_factory.mktemp("join")
    joined = []
    for name in ("first", "second"):
        halves = rows[::2], rows[1::2]
        if name == "second":
            random.shuffle(rows)
            random.shuffle(ids)
            by_item = {"abcd": [r for r in rows if r[0] in "abcd"], "efgh": [r for r in rows if r[0] not in "abcd"]}
            halves = by_item["efgh"], by_item["abcd"]
            paths = [features_file(folder / f"{name}{n}", half) for n, half in enumerate(halves)]
        else:
            paths = [features_file(folder / name, rows)]
        joined.append(dataset.join(catalog(ids), {"lexical": dataset.pool(paths)}))
    assert joined[0].equals(joined[1])


PEAK = """
import re, sys
from pathlib import Path
from pipeline import dataset
def peak_mb():
    # Not getrusage: its figure begins with the parent's memory.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024
before = peak_mb()
dataset.pool(sys.argv[1:])
print(peak_mb() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_memory_does_not_grow_with_the_rows_of_a_file(tmp_path):
    """20,000 faces: 160 MB of vectors, which were once held several times over."""
    width, rows, items = 2048, 2000, 20
    numbers = np.random.default_rng(0)
    schema = store.schema("features", {"embedding": width})
    with store.writer(tmp_path / "f", schema, {**MADE_BY, "items": {}}) as out:
        for group in range(10):
            columns = {
                "item_id": [f"i{group}_{row // (rows // items):03d}" for row in range(rows)],
                "index": pa.array(np.arange(rows, dtype=np.int32)),
                "start_s": pa.nulls(rows, pa.float64()),
                "end_s": pa.nulls(rows, pa.float64()),
                "embedding": store.vectors_to_arrow(numbers.random((rows, width), dtype=np.float32)),
            }
            out.write(pa.table(columns, schema=schema))
    command = [sys.executable, "-c", PEAK, str(tmp_path / "f")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 300


@pytest.mark.parametrize("least_rows", [1, 3, 1024])
def test_rows_are_averaged_in_their_order_whatever_the_batch(tmp_path, monkeypatch, least_rows):
    monkeypatch.setattr(dataset, "BATCH_BYTES", 1)
    monkeypatch.setattr(dataset, "LEAST_BATCH_ROWS", least_rows)
    numbers = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    path = features_file(tmp_path / "f", [(f"i{n // 7}", n, vector.tolist()) for n, vector in enumerate(numbers)])
    pooled = dataset.pool([path])
    for item_id, vector in zip(pooled.item_ids, pooled.vectors, strict=True):
        total = np.zeros(2)
        mine = numbers[7 * int(item_id[1:]) :][:7]
        for row in mine:
            total += row
        assert vector.tolist() == (total / len(mine)).astype(np.float32).tolist()


def test_an_item_without_features_is_null_and_says_why(tmp_path):
    path = features_file(tmp_path / "f", [("a", 0, [1, 2])], items={"a": {}, "b": {"reason": "the talk has no text"}})
    pooled = {"lexical": dataset.pool([path])}
    joined = dataset.join(catalog(["b", "a"]), pooled)
    assert joined["lexical"].to_pylist() == [[1, 2], None]
    assert dataset.quality(catalog(["b", "a"]), None, pooled).to_pylist() == [
        {"item_id": "a", "status": "ok", "reason": None, "lexical_frames": 1}
        | {"acoustic_frames": None, "visual_frames": None},
        {"item_id": "b", "status": "incomplete", "reason": "lexical: the talk has no text", "lexical_frames": 0}
        | {"acoustic_frames": None, "visual_frames": None},
    ]


def test_what_went_wrong_in_fetching_is_the_status(tmp_path):
    path = features_file(tmp_path / "f", [], items={"a": {"reason": "gone"}})
    media = pa.table({"item_id": ["a"], "status": ["unavailable"], "reason": ["HTTP 404"]})
    row = dataset.quality(catalog(["a"]), media, {"acoustic": dataset.pool([path])}).to_pylist()[0]
    assert (row["status"], row["reason"], row["acoustic_frames"]) == ("unavailable", "HTTP 404; acoustic: gone", 0)


def test_features_of_an_item_that_the_catalog_lacks_are_refused(tmp_path):
    path = features_file(tmp_path / "f", [("x", 0, [1, 2])])
    with pytest.raises(UserError, match="lexical features of 'x', which the catalog does not have"):
        dataset.join(catalog(["a"]), {"lexical": dataset.pool([path])})


def test_two_files_with_the_same_item_are_refused(tmp_path):
    paths = [features_file(tmp_path / name, [("a", 0, [1, 2])]) for name in "fg"]
    with pytest.raises(UserError, match=r"item .a. has rows in .*f too"):
        dataset.pool(paths)


def test_files_of_different_width_are_refused(tmp_path):
    paths = [features_file(tmp_path / "f", [("a", 0, [1, 2])]), features_file(tmp_path / "g", [], width=3)]
    with pytest.raises(UserError, match="vectors of 3 values beside others of 2"):
        dataset.pool(paths)


def test_pooled_vectors_pass_through():
    pooled = dataset.Pooled.of({"b": np.array([1.0, 2.0]), "a": np.array([3.0, 4.0])})
    assert dataset.join(catalog(["a", "b"]), {"acoustic": pooled})["acoustic"].to_pylist() == [[3, 4], [1, 2]]
