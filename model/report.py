"""The report: one self-contained page with the six tables, the corpora they rest on, and how the networks learned.

Reads tables/*.csv, curves, quality and dataset files; returns HTML. The page needs no network and no script.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from model import charts
from model.charts import number
from model.items import complete_items, modalities_of
from pipeline import store

TITLES = {
    1: "Ablation, lexical student",
    2: "Ablation, acoustic student",
    3: "Knowledge distillation, lexical student",
    4: "Knowledge distillation, acoustic student",
    5: "Whose pre-training, lexical student",
    6: "Whose pre-training, acoustic student",
}
VARIANTS = {
    "majority": "majority class or mean",
    "linear": "linear, one modality",
    "unimodal": "unimodal network",
    "distilled": "distillation",
    "ours_no_pretrain_no_finetune": "ours −pre-training −fine-tuning",
    "ours_no_finetune": "ours −fine-tuning",
    "ours_no_regularisation": "ours −regularisation",
    "ours_no_pretrain": "ours −pre-training",
    "ours_other_pretrain": "ours, task-agnostic pre-training",
    "ours": "ours",
    "linear_multimodal": "linear, all modalities",
    "multimodal": "oracle (multimodal network)",
}
METRICS = {"macro_f1": "macro F1", "r2": "R²"}
SIGNIFICANT = 0.05


def render(
    table_paths: Iterable[str | Path],
    curve_paths: Iterable[str | Path],
    dataset_paths: Iterable[str | Path],
    quality_paths: Iterable[str | Path],
) -> str:
    """The page as HTML. Raises UserError for an input file that is missing or of another shape."""
    tables = {}
    for path in sorted(map(str, table_paths)):
        frame = pd.read_csv(path)
        if len(frame):
            tables[int(frame["table"].iloc[0])] = frame
    qualities = {store.read_provenance(path)["corpus"]: store.read(path, "quality") for path in quality_paths}
    corpora = [_corpus(path, qualities) for path in dataset_paths]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("model", "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html.j2").render(
        corpora=corpora,
        untrained=_untrained(corpora),
        tables=[_table(number_, frame) for number_, frame in sorted(tables.items())],
        learning=_learning(curve_paths),
        versions=corpora[0]["versions"] if corpora else {},
    )


def _corpus(path: str | Path, qualities: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of one corpus."""
    dataset, made_by = store.read(path, "dataset"), store.read_provenance(path)
    complete = complete_items(dataset)
    statuses = qualities[made_by["corpus"]]["status"].value_counts().to_pylist()
    problems = [
        row
        for row in qualities[made_by["corpus"]].select(["item_id", "status", "reason"]).to_pylist()
        if row["status"] != "ok" or row["reason"]
    ]
    modalities = [
        {
            "name": name,
            "width": dataset.schema.field(name).type.list_size,
            "missing": dataset[name].null_count,
            "extractor": (made_by["weights"] or {}).get(name),
        }
        for name in modalities_of(dataset)
    ]
    return {
        "name": _shown(made_by["corpus"]),
        "task": made_by["task"],
        "classes": made_by["classes"],
        "count": complete.num_rows,
        "incomplete": dataset.num_rows - complete.num_rows,
        "groups": len(complete["group"].unique()),
        "labels": _labels(complete, made_by["classes"]),
        "left_out": made_by.get("left_out") or {},
        "statuses": {entry["values"]: entry["counts"] for entry in statuses},
        "problems": problems,
        "modalities": modalities,
        "code": made_by["code"],
        "versions": made_by["versions"],
    }


def _shown(corpus: str) -> str:
    """A corpus as the paper writes it."""
    return {"ted": "TED", "iemocap": "IEMOCAP", "mit": "MIT"}.get(corpus, corpus)


def _direction(source: str, corpus: str) -> str:
    return f"{_shown(source)} → {_shown(corpus)}" if source else _shown(corpus)


def _labels(dataset: Any, classes: Sequence[str] | None) -> str:
    if classes is None:
        target = dataset["target"].to_pandas()
        return f"{number(target.min())} to {number(target.max())}, mean {number(target.mean())}"
    counts = dataset["label"].to_pandas().value_counts()
    return ", ".join(f"{counts.get(name, 0)} {name}" for name in classes)


def _untrained(corpora: Sequence[Mapping[str, Any]]) -> list[str]:
    """The modalities, with their extractors, whose weights nobody has trained."""
    found = {
        (modality["name"], modality["extractor"]["name"])
        for corpus in corpora
        for modality in corpus["modalities"]
        if modality["extractor"] and modality["extractor"].get("untrained")
    }
    return [f"{modality} ({extractor})" for modality, extractor in sorted(found)]


def _table(table: int, frame: pd.DataFrame) -> dict[str, Any]:
    """One table of the page: columns are variants, rows are corpora under a protocol and settings."""
    frame = frame.assign(source=frame["source"].fillna(""))
    variants = [name for name in VARIANTS if name in set(frame["variant"])]
    keys = ["source", "corpus", "protocol", "settings"]
    footnotes = list(dict.fromkeys(frame.loc[frame["mean"].notna(), "note"].dropna()))
    rows = []
    for (source, corpus, protocol, settings), group in frame.groupby(keys, sort=False):
        cells = {row.variant: _cell(row, footnotes) for row in group.itertuples()}
        rows.append(
            {
                "corpus": _direction(source, corpus),
                "protocol": protocol,
                "settings": settings,
                "metric": METRICS[group["metric"].iloc[0]],
                "runs": int(group["runs"].max()),
                "cells": [cells.get(name) for name in variants],
            }
        )
    return {
        "number": table,
        "title": TITLES[table],
        "variants": [VARIANTS[name] for name in variants],
        "rows": rows,
        "footnotes": footnotes,
        "series": _series(frame),
        "figures": [
            {
                "corpus": _direction(source, corpus),
                "metric": METRICS[group["metric"].iloc[0]],
                "svg": charts.dot_plot(_plot_rows(group, variants, _series(frame)), f"Table {table}, {corpus}"),
            }
            for (source, corpus), group in frame.groupby(["source", "corpus"], sort=False)
        ],
    }


def _series(frame: pd.DataFrame) -> list[str]:
    """Names of the pairs of protocol and settings in the order of their colours."""
    pairs = dict.fromkeys(zip(frame["protocol"], frame["settings"], strict=True))
    return [_series_name(protocol, settings) for protocol, settings in pairs]


def _series_name(protocol: str, settings: str) -> str:
    return f"{protocol} protocol, {settings} settings"


def _cell(row: Any, footnotes: list[str]) -> dict[str, Any]:
    """A cell of a table; what is to be said of its number is one of the table's `footnotes`."""
    cell = {"note": row.note if isinstance(row.note, str) else "", "paper": None, "mean": None}
    if math.isfinite(row.paper):
        cell["paper"] = number(row.paper)
    if not math.isfinite(row.mean):
        return cell
    interval = f"{number(row.ci_low)} to {number(row.ci_high)}" if math.isfinite(row.ci_low) else "one run"
    cell |= {"mean": number(row.mean), "interval": interval, "verdict": ""}
    if cell["note"]:
        cell["footnote"] = footnotes.index(cell["note"]) + 1
    if math.isfinite(row.p):
        sign = "+" if row.difference >= 0 else ""
        cell["versus"] = f"{sign}{number(row.difference)} against unimodal, p = {number(row.p)}"
        if row.p < SIGNIFICANT:
            cell["verdict"] = "above" if row.difference > 0 else "below"
    return cell


def _plot_rows(group: pd.DataFrame, variants: Sequence[str], series: Sequence[str]) -> list[charts.Row]:
    rows = []
    for variant in variants:
        mine = group[group["variant"] == variant]
        marks = [
            charts.Mark(
                row.mean,
                row.ci_low,
                row.ci_high,
                series.index(_series_name(row.protocol, row.settings)),
                f"{VARIANTS[variant]}, {_series_name(row.protocol, row.settings)}: {number(row.mean)}",
            )
            for row in mine.itertuples()
            if math.isfinite(row.mean)
        ]
        papers = mine["paper"].dropna()
        if marks:
            rows.append(charts.Row(VARIANTS[variant], marks, None if papers.empty else float(papers.iloc[0])))
    return rows


def _learning(paths: Iterable[str | Path]) -> list[dict[str, Any]]:
    """Learning curves, averaged over runs: a group for each corpus, protocol and settings."""
    frames = [store.read(path, "curves").to_pandas() for path in sorted(map(str, paths))]
    if not frames:
        return []
    groups = []
    for (corpus, protocol, settings), group in pd.concat(frames).groupby(["corpus", "protocol", "settings"]):
        plots = []
        for (stage, modality, variant), points in group.groupby(["stage", "modality", "variant"]):
            name = f"{modality}: {stage}" + ("" if variant == stage else f", {variant.replace('_', ' ')}")
            means = points.groupby("epoch")[["train_loss", "val_loss"]].mean()
            lines = [(loss, list(means[loss].items())) for loss in means]
            drawn = charts.curves(lines, points.loc[points["kept"], "epoch"].mean(), name)
            if drawn:
                plots.append({"name": name, "svg": drawn})
        groups.append({"name": f"{_shown(corpus)}, {_series_name(protocol, settings)}", "plots": plots})
    return groups
