"""A user's own table: every mistake that is easy to make is named, with its row."""

import math
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpora import table
from pipeline.errors import UserError

FULL = """item_id,label,text,source,start_s,end_s,video,video_start_s,video_end_s,side,group
b,yes,"Well, hello",sound/b.wav,0.5,1.5,film.avi,2,4,left,ann
a,no,,https://example.org/a.mp3,,,,,,,
"""


def save(folder, content, name="my.csv"):
    (folder / "sound").mkdir(exist_ok=True)
    for recording in ("sound/a.wav", "sound/b.wav", "film.avi"):
        (folder / recording).touch()
    (folder / name).write_text(content, encoding="utf-8")
    return {"table": str(folder / name), "task": "classification"}


def rows_of(made):
    return {row["item_id"]: row for row in made.table.to_pylist()}


def test_a_row_becomes_an_item_with_paths_from_the_tables_folder(tmp_path):
    made = table.prepare(save(tmp_path, FULL))
    assert made.table.to_pylist() == [
        {
            "item_id": "a",
            "group": "a",
            "text": None,
            "target": 0.0,
            "label": "no",
            "source": "https://example.org/a.mp3",
            "start_s": None,
            "end_s": None,
            "video": None,
            "video_start_s": None,
            "video_end_s": None,
            "side": None,
        },
        {
            "item_id": "b",
            "group": "ann",
            "text": "Well, hello",
            "target": 1.0,
            "label": "yes",
            "source": str(tmp_path / "sound" / "b.wav"),
            "start_s": 0.5,
            "end_s": 1.5,
            "video": str(tmp_path / "film.avi"),
            "video_start_s": 2.0,
            "video_end_s": 4.0,
            "side": "left",
        },
    ]
    assert made.classes == ["no", "yes"]


def test_a_tab_separated_and_a_parquet_table_give_the_same_catalog(tmp_path):
    from_csv = table.prepare(save(tmp_path, FULL))
    tabbed = FULL.replace('"Well, hello"', "Well@ hello").replace(",", "\t").replace("@", ",")
    assert table.prepare(save(tmp_path, tabbed, "my.tsv")).table.equals(from_csv.table)
    columns = ["item_id", "group", "text", "label", "source", "start_s", "end_s"]
    own = ["video", "video_start_s", "video_end_s", "side"]
    rows = [{name: row[name] for name in columns + own} for row in from_csv.table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "my.parquet")
    settings_of_it = {"table": str(tmp_path / "my.parquet"), "task": "classification"}
    assert table.prepare(settings_of_it).table.equals(from_csv.table)


def test_the_columns_that_are_filled_tell_the_modalities_and_files(tmp_path):
    given_settings = save(tmp_path, FULL)
    assert table.inputs(given_settings) == [str(tmp_path / "my.csv")]
    assert table.raw_files(given_settings) == [str(tmp_path / "film.avi"), str(tmp_path / "sound" / "b.wav")]
    assert table.modalities(given_settings) == ("lexical", "acoustic", "visual")
    texts_only = save(tmp_path, "item_id,target,text,source\na,1,hi,\nb,2,ho,\n", "texts.csv")
    assert table.modalities(texts_only) == ("lexical",)
    assert table.raw_files(texts_only) == []
    assert table.prepare(texts_only).table.column_names[-1] == "end_s"


def test_a_regression_takes_its_numbers_as_they_are(tmp_path):
    made = table.prepare(save(tmp_path, "item_id,target,text\na,-1.5,hi\nb,2e3,ho\n") | {"task": "regression"})
    assert [row["target"] for row in made.table.to_pylist()] == [-1.5, 2000.0]
    assert (made.classes, made.table["label"].null_count) == (None, 2)


@pytest.mark.parametrize(
    ("files", "cuts", "of_video"),
    [
        ("film.avi,film.avi", "2,3,,", (2.0, 3.0)),
        (",film.avi", "2,3,,", (2.0, 3.0)),
        ("sound/../film.avi,film.avi", ",3,,", (None, 3.0)),
        ("film.avi,film.avi", "2,3,,4", (None, 4.0)),
        ("sound/a.wav,film.avi", "2,3,5,6", (5.0, 6.0)),
        ("sound/a.wav,film.avi", "2,3,0,", (0.0, None)),
        ("sound/a.wav,film.avi", "0,,,", (None, None)),
        ("sound/a.wav,film.avi", ",,,", (None, None)),
        ("sound/a.wav,", "2,3,,", (None, None)),
    ],
)
def test_a_film_without_a_cut_of_its_own_is_cut_like_the_source_that_it_is(tmp_path, files, cuts, of_video):
    header = "item_id,target,source,video,start_s,end_s,video_start_s,video_end_s"
    whole = "b,2,,film.avi,,,0,9"  # a cut of its own, so that the catalog has the columns
    made = table.prepare(save(tmp_path, f"{header}\na,1,{files},{cuts}\n{whole}\n") | {"task": "regression"})
    row = rows_of(made)["a"]
    assert (row["video_start_s"], row["video_end_s"]) == of_video


@pytest.mark.parametrize(
    ("header", "values", "classes"),
    [
        ("label", ["sad", "glad", "sad"], ["glad", "sad"]),
        ("target", ["10", "9", "10"], ["9", "10"]),
        ("target", ["low", "9", "low"], ["9", "low"]),
        ("label,target", ["low,1", "high,3", "mid,2"], ["low", "mid", "high"]),
    ],
)
def test_classes_are_numbered_by_target_by_number_or_by_alphabet(tmp_path, header, values, classes):
    rows = "".join(f"i{n},words,{value}\n" for n, value in enumerate(values))
    made = table.prepare(save(tmp_path, f"item_id,text,{header}\n{rows}"))
    assert made.classes == classes
    assert [row["label"] for row in made.table.to_pylist()] == [value.split(",")[0] for value in values]
    assert all(classes[int(row["target"])] == row["label"] for row in made.table.to_pylist())


@pytest.mark.parametrize(
    ("content", "task", "message"),
    [
        ("name,label,text\na,x,hi\n", "classification", r"has no column 'item_id' \(it has: name, label, text\)"),
        ("item_id,text\na,hi\n", "classification", r"has no column 'label' or 'target', which a classification needs"),
        ("item_id,label,text\na,x,hi\n", "regression", r"has no column 'target', which a regression needs"),
        ("item_id,target,text\na,1,hi\nb/c,2,ho\n", "regression", r"my\.csv, row 3: item_id 'b/c' .* write 'b_c'"),
        ("item_id,target,text\na,1,hi\n,2,ho\n", "regression", r"my\.csv, row 3: item_id is empty"),
        ("item_id,target,text\na,1,hi\n\na,2,ho\n", "regression", r"row 4: item_id 'a' stands already in .*row 2"),
        ("item_id,target,text\na,1,hi\nb,two,ho\n", "regression", r"row 3: target is 'two'; write a number"),
        ("item_id,target,text\na,1,hi\nb,nan,ho\n", "regression", r"row 3: target is empty; write a number"),
        ("item_id,label,text\na,x,hi\nb,NA,ho\n", "classification", r"row 3: the label is empty \(or NA\); fill it"),
        ("item_id,target,text\na,1,hi\nb,,ho\n", "regression", r"row 3: target is empty; write a number"),
        ("item_id,label,text\na,x,hi\nb,,ho\n", "classification", r"row 3: the label is empty"),
        ("item_id,label,text\na,x,hi\nb,x,ho\n", "classification", r"one class only \('x'\)"),
        (
            "item_id,label,target,text\na,x,0,hi\nb,y,1,hi\nc,x,1,hi\n",
            "classification",
            r"row 4: the target of 'x' is 1, in .*row 2 0",
        ),
        ("item_id,label,target,text\na,x,0,hi\nb,y,0,hi\n", "classification", r"two of the labels x, y have the same"),
        (
            "item_id,target,text\na,1,hi\n",
            "ranking",
            r"the task of .*my\.csv is 'ranking'; let .* classification or regr",
        ),
        ("item_id,target,text\na,1,hi\n", None, r"the task of .*my\.csv is None"),
        ("item_id,target,source\na,1,sound/c.wav\n", "regression", r"row 2: the source 'sound/c\.wav' does not exist"),
        ("item_id,target,source\na,1,sound\n", "regression", r"row 2: the source 'sound' does not exist"),
        ("item_id,target,video\na,1,no.avi\n", "regression", r"row 2: the video 'no\.avi' does not exist"),
        (
            "item_id,target,video\na,1,https://example.org/a.mp4\n",
            "regression",
            r"row 2: the video 'https://example\.org/a\.mp4' is a URL; fetch it and write the file's path",
        ),
        (
            "item_id,target,source,video,start_s,end_s\na,1,sound/a.wav,film.avi,2,3\n",
            "regression",
            r"row 2: .* the video is another file.*; write the video's own cut in video_start_s and video_end_s",
        ),
        ("item_id,target,text,side\na,1,hi,up\n", "regression", r"row 2: side is 'up'; write left or right"),
        ("item_id,target,text,start_s\na,1,hi,soon\n", "regression", r"row 2: start_s is 'soon'; write a number"),
        ("item_id,target,text,start_s\na,1,hi,-1\n", "regression", r"row 2: start_s is -1; times are seconds"),
        (
            "item_id,target,text,start_s,end_s\na,1,hi,2,2\n",
            "regression",
            r"row 2: end_s \(2\) is not after start_s \(2\)",
        ),
        (
            "item_id,target,text,video_end_s\na,1,hi,0\n",
            "regression",
            r"row 2: video_end_s \(0\) is not after video_st",
        ),
        ("item_id,target\na,1\n", "regression", r"has nothing to learn from: fill at least one of the columns text"),
        ("item_id,target,text\n", "regression", r"my\.csv has no rows"),
        ("item_id,target,text\na,1\n", "regression", r"my\.csv, row 2 has 2 fields, the header has 3"),
    ],
)
def test_a_mistake_is_named_with_its_row(tmp_path, content, task, message):
    with pytest.raises(UserError, match=message):
        table.prepare(save(tmp_path, content) | {"task": task})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.csv", r"absent\.csv is no file: let corpora\.NAME\.table name"),
        ("my.xlsx", r"my\.xlsx is no table that can be read"),
        ("my.parquet", r"my\.parquet is no Parquet file that can be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, name, message):
    if name != "absent.csv":
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(UserError, match=message):
        table.inputs({"table": str(tmp_path / name)})
        table.prepare({"table": str(tmp_path / name), "task": "regression"})


def test_columns_that_are_not_read_are_named(tmp_path):
    made = table.prepare(save(tmp_path, "item_id,target,text,transcript\na,1,hi,x\n") | {"task": "regression"})
    assert "columns not read: transcript" in made.notes


@pytest.mark.parametrize("missing", ["NA", "NaN", "nan"])
def test_a_cell_that_r_or_pandas_wrote_as_missing_is_empty_and_counted(tmp_path, missing):
    rows = f"NA,x,{missing},{missing},{missing},{missing},{missing}\nb,y,{missing} ya,ann,,,NA\n"
    made = table.prepare(save(tmp_path, f"item_id,label,text,group,source,start_s,mood\n{rows}"))
    own = [[row[name] for name in ("item_id", "text", "group", "source", "start_s")] for row in made.table.to_pylist()]
    assert own == [["NA", None, "NA", None, None], ["b", f"{missing} ya", "ann", None, None]]
    assert "4 cells hold NA or NaN or nan: read as empty" in made.notes
    nothing_else = save(tmp_path, f"item_id,label,text,source\na,x,hi,{missing}\nb,y,ho,\n")
    assert table.modalities(nothing_else) == ("lexical",)


def test_a_float_nan_in_parquet_is_empty_and_a_class_may_be_called_na(tmp_path):
    columns = {"item_id": ["a", "b"], "label": ["NA", "EU"], "text": ["hi", "ho"], "group": [float("nan"), 2.0]}
    pq.write_table(pa.table({**columns, "start_s": [float("nan"), 1.0]}), tmp_path / "my.parquet")
    made = table.prepare({"table": str(tmp_path / "my.parquet"), "task": "classification"})
    assert made.classes == ["EU", "NA"]
    assert [(row["group"], row["start_s"]) for row in made.table.to_pylist()] == [("a", None), ("2.0", 1.0)]
    pq.write_table(pa.table({**columns, "label": [float("nan"), 1.0]}), tmp_path / "my.parquet")
    with pytest.raises(UserError, match=r"row 1: the label is empty"):
        table.prepare({"table": str(tmp_path / "my.parquet"), "task": "classification"})


def test_lines_that_are_no_utf_8_are_read_and_counted(tmp_path):
    given_settings = save(tmp_path, FULL)
    path = tmp_path / "my.csv"
    path.write_bytes(path.read_bytes().replace(b"Well", b"W\xe9ll").replace(b"no,,", "no,né,".encode()))
    made = table.prepare(given_settings)
    assert [row["text"] for row in made.table.to_pylist()] == ["né", "Wéll, hello"]
    assert f"1 lines of {path} are no UTF-8: read as Windows-1252" in made.notes


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True), st.floats(allow_nan=False), min_size=1
    ),
    st.randoms(use_true_random=False),
)
def test_every_finite_target_survives_and_the_order_of_the_rows_leaves_no_trace(tmp_path_factory, targets, draw):
    folder = tmp_path_factory.mktemp("own")
    items = [(item_id, target) for item_id, target in targets.items() if math.isfinite(target)] or [("a", 0.0)]
    made = []
    for _ in range(2):
        rows = "".join(f"{item_id},{target!r},words\n" for item_id, target in items)
        made.append(table.prepare(save(folder, f"item_id,target,text\n{rows}") | {"task": "regression"}).table)
        random.Random(draw.random()).shuffle(items)
    assert made[0].equals(made[1])
    assert dict(zip(made[0]["item_id"].to_pylist(), made[0]["target"].to_pylist(), strict=True)) == dict(items)
