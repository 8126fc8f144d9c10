"""From predictions to the paper's tables: a row for each cell, with interval, paired difference and p-value.

Reads predictions.parquet of every corpus, protocol and settings; writes table1.csv to table6.csv and runs.parquet.
A run is a split of the paper protocol, or a repeat of the grouped protocol's cross-validation: there the metric is
computed over all held-out predictions of the repeat.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model import metrics, statistics, variants
from model.experiments import Cell

COLUMNS = (
    "table",
    "corpus",
    "modality",
    "variant",
    "protocol",
    "settings",
    "metric",
    "mean",
    "ci_low",
    "ci_high",
    "runs",
    "paper",
    "source",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "note",
)
MACRO_F1, R2 = "macro_f1", "r2"


@dataclass(frozen=True)
class Scored:
    """A variant's predictions as counts (macro F1) or squared errors (R2), by group of items and by run.

    `parts`: (groups, runs, classes, classes) or (groups, runs); `values`: the metric of each run.
    """

    parts: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Truth:
    """What is right: target and group of every item, and how many folds make a run of the table."""

    row_of: Mapping[str, int]
    target: np.ndarray
    group: np.ndarray
    classes: int | None
    folds: int

    def score(self, item_ids: Sequence[str], runs: np.ndarray, predicted: np.ndarray) -> Scored:
        """The metric of each run, and the parts that it is made of."""
        rows = np.array([self.row_of[item_id] for item_id in item_ids])
        run = runs // self.folds
        groups, count = int(self.group.max()) + 1, int(run.max()) + 1
        place = self.group[rows] * count + run
        target = self.target[rows]
        if self.classes:
            k = self.classes
            cells = (place * k + target.astype(np.int64)) * k + predicted.astype(np.int64)
            parts = np.bincount(cells, minlength=groups * count * k * k).reshape(groups, count, k, k)
            return Scored(parts, metrics.f1_of_counts(parts.sum(0)))
        parts = np.bincount(place, (predicted - target) ** 2, minlength=groups * count).reshape(groups, count)
        return Scored(parts, np.array([metrics.r2(target[run == r], predicted[run == r]) for r in range(count)]))


@dataclass(frozen=True)
class Results:
    """All predictions of one corpus under one protocol and settings, scored: keyed (modality, variant, teacher).

    `notes`: what is to be said of a variant, by `modality/variant`.
    """

    truth: Truth
    scored: Mapping[tuple[str, str, str], Scored]
    notes: Mapping[str, str]


Key = tuple[str, str, str]  # corpus, protocol, settings


def rows(cells: Iterable[Cell], results: Mapping[Key, Results]) -> list[dict[str, Any]]:
    """A row for each cell under each protocol and settings; p-values are corrected (Holm) within a table.

    What stands in a table several times (in tables 5 and 6, beside each other corpus) is one comparison.
    """
    table: list[dict[str, Any]] = []
    comparisons: dict[int, dict[tuple[Any, ...], list[dict[str, Any]]]] = {}
    for cell in cells:
        for (corpus, protocol, settings), result in results.items():
            if corpus == cell.corpus:
                row = _row(cell, protocol, settings, result)
                table.append(row)
                if not math.isnan(row["p"]):
                    same = corpus, protocol, settings, *key_of(cell)
                    comparisons.setdefault(cell.table, {}).setdefault(same, []).append(row)
    for compared in comparisons.values():
        corrected = statistics.holm([same[0]["p"] for same in compared.values()])
        for same, p in zip(compared.values(), corrected, strict=True):
            for row in same:
                row["p"] = p
    return table


def runs(cells: Iterable[Cell], results: Mapping[Key, Results]) -> list[dict[str, Any]]:
    """Each run's value behind the rows of the tables."""
    found = []
    for cell in cells:
        for (corpus, protocol, settings), result in results.items():
            scored = result.scored.get(key_of(cell)) if corpus == cell.corpus else None
            if scored is not None:
                found += [
                    {
                        **_names(cell, protocol, settings, result),
                        "source": cell.source,
                        "run": run,
                        "value": float(value),
                    }
                    for run, value in enumerate(scored.values)
                ]
    return found


def key_of(cell: Cell) -> tuple[str, str, str]:
    """Where a cell's predictions stand: modality, variant and teacher as `model.evaluate` names them."""
    teacher = "-".join(cell.teacher)
    if cell.variant in (variants.MULTIMODAL, variants.LINEAR_MULTIMODAL, variants.MAJORITY):
        return teacher, cell.variant, teacher
    if cell.variant == variants.OTHER_PRETRAIN:
        return cell.modality, f"{cell.variant}.{cell.source}", teacher
    return cell.modality, cell.variant, teacher


def _names(cell: Cell, protocol: str, settings: str, result: Results) -> dict[str, Any]:
    return {
        "table": cell.table,
        "corpus": cell.corpus,
        "modality": cell.modality,
        "variant": cell.variant,
        "protocol": protocol,
        "settings": settings,
        "metric": MACRO_F1 if result.truth.classes else R2,
    }


def _row(cell: Cell, protocol: str, settings: str, result: Results) -> dict[str, Any]:
    nan = float("nan")
    row = {**_names(cell, protocol, settings, result), **dict.fromkeys(COLUMNS[7:], nan), "runs": 0, "note": ""}
    row["paper"] = nan if cell.paper is None else cell.paper
    row["source"] = cell.source or ""
    scored = result.scored.get(key_of(cell))
    row["note"] = result.notes.get("/".join(key_of(cell)[:2]), "" if scored else "not trained")
    if scored is None:
        return row
    row["mean"], row["runs"] = float(scored.values.mean()), len(scored.values)
    row["ci_low"], row["ci_high"] = statistics.interval(scored.values)
    base = _unimodal(cell, result)
    if base is not None and cell.variant != variants.UNIMODAL:
        change = scored.values - base.values
        row["difference"] = float(change.mean())
        row["difference_low"], row["difference_high"] = statistics.interval(change)
        row["p"] = _p_value(protocol, scored, base, result.truth)
    return row


def _unimodal(cell: Cell, result: Results) -> Scored | None:
    for (modality, variant, _), scored in result.scored.items():
        if variant == variants.UNIMODAL and modality == cell.modality:
            return scored
    return None


def _p_value(protocol: str, scored: Scored, base: Scored, truth: Truth) -> float:
    """Of the paired difference: random signs by run (paper), groups of items changing sides (grouped)."""
    if protocol == "paper":
        return statistics.sign_flip_p(scored.values - base.values)
    if truth.classes:
        return statistics.swap_p_counts(scored.parts, base.parts)
    return statistics.swap_p_errors(scored.parts, base.parts)


def read_results(paths: Sequence[str]) -> dict[Key, Results]:
    """Score the predictions files; those of the linear baselines belong to every settings of their protocol."""
    from pipeline import store

    loaded = [(store.read_provenance(path), store.read(path, "predictions").to_pandas()) for path in paths]
    results: dict[Key, Results] = {}
    truths: dict[tuple[str, str], Truth] = {}
    simple: dict[tuple[str, str], dict[tuple[str, str, str], Scored]] = {}
    for made_by, frame in sorted(loaded, key=lambda pair: pair[0]["name"] is not None):
        place = made_by["corpus"], made_by["protocol"]
        truth = truths.setdefault(place, _truth(made_by, frame))
        scored = {
            key: truth.score(part["item_id"].tolist(), part["run"].to_numpy(), part["prediction"].to_numpy())
            for key, part in frame.groupby(["modality", "variant", "teacher"], sort=False)
        }
        if made_by["name"] is None:
            simple[place] = scored
        else:
            found = {**simple.get(place, {}), **scored}
            results[(*place, made_by["name"])] = Results(truth, found, made_by.get("notes", {}))
    return results


def _truth(made_by: Mapping[str, Any], frame: Any) -> Truth:
    """Groups matter to the grouped protocol alone: for the other one, all items are of one."""
    items = frame.drop_duplicates("item_id").sort_values("item_id")
    groups = items["group"] if made_by["protocol"] == "grouped" else items["group"].iloc[:1].repeat(len(items))
    return Truth(
        row_of={item_id: row for row, item_id in enumerate(items["item_id"])},
        target=items["target"].to_numpy(),
        group=np.unique(groups.to_numpy(dtype=str), return_inverse=True)[1],
        classes=len(made_by["classes"]) if made_by["task"] == "classification" else None,
        folds=made_by["folds"],
    )


def printable(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row for a CSV file: numbers with six digits, nothing for what there is not."""
    return {
        key: ("" if math.isnan(value) else f"{value:.6g}") if isinstance(value, float) else value
        for key, value in row.items()
    }
