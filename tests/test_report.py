"""The report: what the tables say is on the page, and the page says what the numbers are worth."""

import shutil
import subprocess
from collections import namedtuple

import pandas as pd
import pyarrow as pa
import pytest

from model import charts, tables
from model.report import _cell, render
from pipeline import store

ROWS = [
    ("unimodal", "paper", 0.651, 0.64, 0.66, 0.616, None),
    ("ours", "paper", 0.664, 0.65, 0.68, 0.531, 0.01),
    ("multimodal", "paper", None, None, None, 0.632, None),
    ("unimodal", "grouped", 0.64, None, None, 0.616, None),
]


@pytest.fixture
def page(tmp_path):
    return make_page(tmp_path, untrained=True)


def make_page(folder, untrained):
    """A page from a small table and a small corpus with one item that went wrong."""
    frame = pd.DataFrame(
        [
            {
                **dict.fromkeys(tables.COLUMNS),
                "table": 1,
                "corpus": "ted",
                "modality": "lexical",
                "settings": "paper",
                "metric": "macro_f1",
                "variant": variant,
                "protocol": protocol,
                "mean": mean,
                "ci_low": low,
                "ci_high": high,
                "paper": paper,
                "runs": 10,
                "p": p,
                "difference": 0.013 if p else None,
            }
            for variant, protocol, mean, low, high, paper, p in ROWS
        ]
    )
    frame["note"] = ["", "fell <back>", "not <trained>", ""]
    frame.to_csv(folder / "table1.csv", index=False)
    extractor = {"name": "vggish", "weights": "untrained", "precision": "float32", "untrained": untrained}
    made_by = store.provenance("dataset", "ted", {}, "c0de", weights={"acoustic": extractor}) | {
        "task": "classification",
        "classes": ["top", "bottom"],
        "left_out": {"row 7": "the row is truncated"},
    }
    dataset = pa.table(
        {
            "item_id": ["a", "b"],
            "group": ["g", "h"],
            "target": [0.0, 1.0],
            "label": ["top", "bottom"],
            "acoustic": pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
        }
    )
    quality = [
        {"item_id": "a", "status": "ok", "reason": None},
        {"item_id": "b", "status": "unavailable", "reason": "HTTP 404"},
    ]
    store.write(folder / "dataset.parquet", dataset, "dataset", made_by)
    store.write(
        folder / "quality.parquet", pa.Table.from_pylist(quality, schema=store.schema("quality")), "quality", made_by
    )
    curve = {"corpus": "ted", "protocol": "paper", "settings": "paper", "modality": "lexical", "variant": "ours"}
    curves = [
        {**curve, "stage": "stage4", "run": run, "epoch": epoch, "train_loss": 1.0 / (epoch + 1), "val_loss": 0.7}
        | {"kept": epoch == 20}
        for run in (0, 1)
        for epoch in (0, 10, 20, 30)
    ]
    schema = store.schema("curves")
    rows = [{**dict.fromkeys(schema.names), **row} for row in curves]
    store.write(folder / "curves.parquet", pa.Table.from_pylist(rows, schema=schema), "curves", made_by)
    return render(
        [folder / "table1.csv"],
        [folder / "curves.parquet"],
        [folder / "dataset.parquet"],
        [folder / "quality.parquet"],
    )


def test_each_cell_shows_its_mean_its_interval_and_the_papers_value(page):
    for text in (".664", ".650 to .680", "paper .531", "paper .632"):
        assert text in page


def test_a_significant_difference_is_marked(page):
    assert ".664 ▲" in page
    assert ".651 ▲" not in page


def test_a_cell_that_was_not_trained_says_why_with_its_text_escaped(page):
    assert "not &lt;trained&gt;" in page


def test_what_is_to_be_said_of_a_number_stands_below_the_table(page):
    assert "<sup>1</sup><small>.650 to .680" in page and "<sup>1</sup> fell &lt;back&gt;" in page
    assert page.count("<sup>") == 2


def test_untrained_weights_are_named_before_the_first_table(page, tmp_path):
    warning = page.index("Untrained weights.")
    assert warning < page.index('id="table1"')
    assert "acoustic (vggish)" in page[warning : page.index('id="table1"')]
    assert "Untrained weights." not in make_page(tmp_path, untrained=False)


def test_what_went_wrong_and_what_was_left_out_is_listed(page):
    assert "HTTP 404" in page
    assert "the row is truncated" in page


def test_items_are_counted_that_took_part_and_the_others_beside_them(page):
    assert "TED (1 items)" in page and "1 more lack a modality" in page
    assert "1 top, 0 bottom" in page


def test_a_difference_of_any_size_is_written_whole():
    row = namedtuple("Row", "note paper mean ci_low ci_high difference p")("", 0.5, -9.6, -11.0, -8.0, -10.234, 0.0104)
    assert _cell(row, [])["versus"] == "-10.2 against unimodal, p = .010"


@pytest.mark.parametrize("value", [1.0, 0.5, 0.0, -20.0])
def test_values_that_are_all_the_same_can_be_drawn(value):
    drawn = charts.dot_plot([charts.Row("ours", [charts.Mark(value, value, value, 0, "")], None)], "Table 1")
    assert drawn.count("<circle") == 1 and "nan" not in drawn


def test_the_page_needs_no_other_file_and_no_script(page):
    for outside in ("<script", "http://", "https://", "src=", "@import"):
        assert outside not in page


def test_learning_curves_are_drawn(page):
    assert 'polyline class="train_loss"' in page
    assert 'polyline class="val_loss"' in page
    assert "epoch 30</text>" in page
    assert "kept: epoch 20" in page


def test_numbers_are_written_as_in_the_paper():
    shown = [charts.number(value) for value in (0.8263, 0.0406, -0.04, 1.5, 12.34, float("nan"))]
    assert shown == [".826", ".041", "-.040", "1.5", "12.3", "–"]


def test_it_opens_in_a_browser_without_an_error(page, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium or chrome on the PATH")
    path = tmp_path / "index.html"
    path.write_text(page)
    options = f"--user-data-dir={tmp_path}/profile --enable-logging=stderr --dump-dom --headless"
    options += " --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    opened = subprocess.run(
        [browser, *options.split(), path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert opened.returncode == 0
    assert "CONSOLE" not in opened.stderr
    assert "Table 1. Ablation, lexical student" in opened.stdout
