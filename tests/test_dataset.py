"""The join: by key, never by position; pooled over time; what is missing is null and says why."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import dataset, store
from pipeline.errors import UserError

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
