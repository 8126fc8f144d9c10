"""What the corpora share: ids are cleaned and checked in one place; CSV rows are numbered as the user sees them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import store
from pipeline.corpora import MAX_ID_LENGTH, ItemIds, adapter, catalog, clean_id, counted, not_utf8, read_csv, some
from pipeline.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = [
    ("../../etc/passwd", "_.._etc_passwd"),
    ("..", ""),
    (".", ""),
    (".hidden", "hidden"),
    ("-rf", "rf"),
    ("--help", "help"),
    ("/", "_"),
    ("C:\\talk", "C_talk"),
    ("a/b", "a_b"),
    ("a\x00b", "a_b"),
    ("a\nb", "a_b"),
    ("talk\n", "talk"),
    (" talk ", "talk"),
    ("$(reboot)", "_reboot_"),
    ("{item}", "_item_"),
    ("*", "_"),
    ("a;b|c&d", "a_b_c_d"),
    ("%2e%2e", "_2e_2e"),
    ("café", "cafe"),
    ("ﬁne", "fine"),
    ("１２", "12"),
    ("٣", ""),
    ("日本", ""),
    ("\u202eevil", "evil"),
    ("", ""),
    ("   ", ""),
    ("x" * 300, "x" * 200),
]


@pytest.mark.parametrize(("raw", "cleaned"), HOSTILE)
def test_a_hostile_name_is_cleaned_and_refused_as_it_is(raw, cleaned):
    assert clean_id(raw) == cleaned
    with pytest.raises(UserError, match=r"^my\.csv, row 7: item_id "):
        ItemIds().add(raw, "my.csv, row 7")


@pytest.mark.parametrize("name", ["p1", "Ses01F_impro01_F000", "al_gore_on_averting_climate_crisis", "a.b-c", "_", "9"])
def test_a_clean_name_is_taken_as_it_is(name):
    assert ItemIds().add(name, "here") == clean_id(name) == name


@settings(deadline=None)
@given(st.text())
def test_cleaning_any_text_gives_nothing_or_an_id_that_stays_as_it_is(raw):
    cleaned = clean_id(raw)
    assert clean_id(cleaned) == cleaned
    if cleaned:
        assert store.ITEM_ID.fullmatch(cleaned)
        assert cleaned[0] not in ".-"
        assert len(cleaned) <= MAX_ID_LENGTH


def test_a_refused_id_comes_with_one_that_would_do():
    with pytest.raises(UserError, match="write 'my_talk'"):
        ItemIds().add("my talk", "row 2")


def test_a_repeated_id_names_both_places():
    ids = ItemIds()
    ids.add("a", "my.csv, row 2")
    with pytest.raises(UserError, match=r"^my\.csv, row 9: item_id 'a' stands already in my\.csv, row 2"):
        ids.add("a", "my.csv, row 9")


def test_a_catalog_is_sorted_by_id_and_fits_the_store(tmp_path):
    rows = [
        {"item_id": "b", "group": "g", "target": 1.0, "rank": 2},
        {"item_id": "a", "group": "g", "target": 0.0},
    ]
    made = catalog(rows, "regression", None, "here", {"rank": pa.int32()})
    assert made.table["item_id"].to_pylist() == ["a", "b"]
    assert made.table["rank"].to_pylist() == [None, 2]
    assert made.notes == ("2 items in 1 groups",)
    store.write(tmp_path / "catalog.parquet", made.table, "catalog", {})
    assert store.read(tmp_path / "catalog.parquet", "catalog").equals(made.table)


def test_a_catalog_without_items_is_an_error_that_says_what_was_left_out():
    with pytest.raises(UserError, match=r"here holds no usable item; the first of 1 left out: \('row 2', 'cut off'\)"):
        catalog([], "regression", None, "here", left_out={"row 2": "cut off"})


def test_rows_are_numbered_as_in_a_spreadsheet_whatever_their_fields_hold(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('\ufeffa,b\n"x\ny",1\n\n z ,"2,5"\n', encoding="utf-8")
    assert read_csv(path, ("a", "b")) == [(2, {"a": "x\ny", "b": "1"}), (4, {"a": "z", "b": "2,5"})]


def test_a_windows_text_file_is_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("a\nI’m\n".encode("cp1252"))
    assert read_csv(path) == [(2, {"a": "I’m"})]


def test_a_byte_that_is_no_utf_8_spoils_no_other_line_and_is_reported(tmp_path):
    path, other = tmp_path / "t.csv", tmp_path / "u.csv"
    path.write_bytes(b"\xef\xbb\xbf" + "a,b\nZoë,I’m\n".encode() + b"caf\xe9,It\x92s\n" + '"é\n日",x\n'.encode())
    other.write_text("a\nZoë\n", encoding="utf-8")
    assert [tuple(row.values()) for _, row in read_csv(path)] == [("Zoë", "I’m"), ("café", "It’s"), ("é\n日", "x")]
    assert not_utf8([path, other]) == [f"1 lines of {path} are no UTF-8: read as Windows-1252"]
    assert not_utf8([other]) == []


@pytest.mark.parametrize("corpus", ["ted", "iemocap", "mit"])
def test_a_corpus_says_in_how_many_lines_its_letters_are_a_guess(tmp_path, corpus):
    shutil.copytree(ROOT / "data/demo" / corpus, tmp_path, dirs_exist_ok=True, copy_function=os.symlink)
    metadata, transcripts = tmp_path / "ted_main.csv", tmp_path / "transcripts.csv"
    given_settings = {"metadata": metadata, "transcripts": transcripts} if corpus == "ted" else {"root": tmp_path}
    spoilt = Path(adapter(corpus).inputs(given_settings)[-1])
    content = spoilt.read_bytes()
    spoilt.unlink()  # a link to the demo's own file
    spoilt.write_bytes(content.rstrip().replace(b" I ", b" \x93I\x94 ", 1) + b"\n")
    assert f"1 lines of {spoilt} are no UTF-8: read as Windows-1252" in adapter(corpus).prepare(given_settings).notes


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_table_in_utf_16_is_refused_with_what_to_do(tmp_path, encoding):
    path = tmp_path / "t.csv"
    path.write_text("\ufeffa\nx\n", encoding=encoding)
    with pytest.raises(UserError, match=r"t\.csv is UTF-16; save it as UTF-8"):
        read_csv(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,c\n1,2\n", r"t\.csv has no column 'b' \(its header: a, c\)"),
        ("", r"t\.csv has no column 'a'"),
        ("a,b,a\n1,2,3\n", r"t\.csv has two columns 'a'"),
        ("a,b\n1,2\n1\n", r"t\.csv, row 3 has 1 fields, the header has 2"),
        ("a,b\n1,2,3\n", r"t\.csv, row 2 has 3 fields, the header has 2"),
    ],
)
def test_a_broken_table_names_the_row_or_column(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_csv(path, ("a", "b"))


def test_a_name_that_is_no_known_corpus_is_read_as_a_table():
    assert [adapter(name).__name__.rpartition(".")[2] for name in ("ted", "iemocap", "mit", "mine")] == [
        "ted",
        "iemocap",
        "mit",
        "table",
    ]


def test_reasons_are_counted_and_names_cut_short():
    assert counted(["b", "a", "b"]) == ["2 left out: b", "1 left out: a"]
    assert some("edcbafg", most=3) == "a, b, c and 4 more"
    assert some("ba") == "a, b"


def test_listing_a_corpus_loads_no_heavy_library():
    modules = "iemocap, mit, published, table, ted"
    code = f"import sys; from pipeline.corpora import {modules}; print(sys.modules.keys() & {{'torch', 'pandas'}})"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert printed.stdout.strip() == "set()"
