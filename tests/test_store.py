"""The store: whole writes, checked schemas, provenance, shards."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import store
from pipeline.errors import UserError

ITEMS = pa.table(
    {
        "item_id": ["a", "b"],
        "group": ["g", "h"],
        "text": ["one", None],
        "target": [0.0, 1.0],
        "label": ["low", "high"],
        "source": [None, "x.wav"],
        "start_s": [None, 0.5],
        "end_s": [None, 1.5],
        "title": ["A", "B"],
    }
)
MADE_BY = store.provenance("catalog", "toy", {"metadata": "x.csv"}, code="0" * 16)


def test_a_table_comes_back_with_its_own_columns_and_its_provenance(tmp_path):
    path = tmp_path / "catalog.parquet"
    store.write(path, ITEMS, "catalog", MADE_BY)
    table = store.read(path, "catalog")
    assert table["title"].to_pylist() == ["A", "B"]
    assert table["start_s"].to_pylist() == [None, 0.5]
    assert store.read_provenance(path) == json.loads(json.dumps(MADE_BY))


def test_equal_work_gives_equal_bytes(tmp_path):
    for name in "ab":
        store.write(tmp_path / name, ITEMS, "catalog", MADE_BY)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_provenance_records_the_digest_of_each_input(tmp_path):
    source = tmp_path / "in.csv"
    source.write_text("abc")
    made = store.provenance("catalog", "toy", {}, code="x", inputs=[source])
    assert made["inputs"][str(source)] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_an_exception_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "catalog.parquet"
    store.write(path, ITEMS, "catalog", MADE_BY)
    before = path.read_bytes()
    with pytest.raises(RuntimeError), store.writer(path, store.schema("catalog"), {}) as out:
        out.write(ITEMS)
        raise RuntimeError("the machine went away")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["catalog.parquet"]


def test_a_streamed_file_holds_a_row_group_for_each_write_and_late_provenance(tmp_path):
    path = tmp_path / "catalog.parquet"
    with store.writer(path, store.schema("catalog"), {"step": "catalog"}) as out:
        out.write(ITEMS.slice(0, 1))
        out.write(ITEMS.slice(1, 1))
        out.provenance["items"] = 2
    with store.open_file(path, "catalog") as file:
        assert file.num_row_groups == 2
    assert store.read_provenance(path) == {"step": "catalog", "items": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop_columns(["group"]), "column 'group' is missing"),
        (lambda t: t.set_column(3, "target", pa.array(["x", "y"])), "column 'target' cannot be double"),
        (lambda t: t.set_column(3, "target", pa.array([0.0, None])), "column 'target' is empty in row 1"),
        (lambda t: t.set_column(0, "item_id", pa.array(["a", "a"])), "item_id 'a' stands in two rows"),
        (lambda t: t.set_column(0, "item_id", pa.array(["a", "../b"])), "item_id '../b' may hold only"),
    ],
)
def test_a_wrong_table_is_refused_by_name(tmp_path, change, message):
    with pytest.raises(UserError, match=message):
        store.write(tmp_path / "catalog.parquet", change(ITEMS), "catalog", MADE_BY)
    assert not list(tmp_path.iterdir())


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "catalog.parquet"
    store.write(path, ITEMS, "catalog", MADE_BY)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=r"catalog\.parquet is no whole Parquet file"):
        store.read(path, "catalog")


def test_a_missing_file_says_how_to_make_it(tmp_path):
    with pytest.raises(UserError, match="make it with `snakemake"):
        store.read(tmp_path / "absent.parquet", "catalog")


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "catalog.parquet"
    store.write(path, ITEMS, "catalog", MADE_BY)
    with pytest.raises(UserError, match="column 'status' is missing, so this is no media file"):
        store.read(path, "media")


def test_vectors_keep_their_values_and_their_gaps():
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2)
    column = store.vectors_to_arrow(matrix, valid=[True, False, True])
    assert column.to_pylist() == [[0, 1], None, [4, 5]]
    back = store.arrow_to_vectors(pa.chunked_array([column.slice(0, 2), column.slice(2)]))
    assert np.isnan(back[1]).all()
    assert (back[[0, 2]] == matrix[[0, 2]]).all()


@settings(deadline=None)
@given(st.lists(st.from_regex(store.ITEM_ID, fullmatch=True), unique=True), st.integers(1, 9), st.data())
def test_the_shards_part_the_items_and_an_item_keeps_its_shard_whatever_its_neighbours(ids, shards, data):
    table = pa.table({"item_id": pa.array(ids, pa.string())})
    parts = [store.in_shard(table, shard, shards)["item_id"].to_pylist() for shard in range(shards)]
    assert sorted(item_id for part in parts for item_id in part) == sorted(ids)
    if ids:
        gone = data.draw(st.sampled_from(ids))
        rest = table.filter(pa.array([item_id != gone for item_id in ids], pa.bool_()))
        after = [store.in_shard(rest, shard, shards)["item_id"].to_pylist() for shard in range(shards)]
        assert [part for part, new in zip(parts, after, strict=True) if part != new] == [
            parts[store.shard_of(gone, shards)]
        ]
