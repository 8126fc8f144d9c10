"""A corpus of the user's own: reads one table (CSV, TSV or Parquet), a row an item, gives the catalog.

    item_id         required: letters, digits, '_', '.', '-'; every row its own
    target, label   regression: a number in `target`. classification: a name in `label`, or anything in `target`; where
                    both are given, classes are numbered in the order of their target
    text            what was said
    source          recording: a path relative to the table's folder, or a URL; start_s, end_s cut it (seconds)
    video           path as above, no URL; side (left, right) is the half of the picture that shows the item.
                    video_start_s, video_end_s cut it; where both are empty, and it is the source itself or there is no
                    source, start_s and end_s do
    group           what a grouped split never parts, e.g. the speaker; each item is its own group where it is empty

An empty field is a null. So is NA, NaN or nan in CSV and TSV, except as an item_id, and a float NaN in Parquet, where a
class may be called NA. Other columns are not read.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpora import Catalog, ItemIds, catalog, existing_file, not_utf8, read_csv, required, some
from pipeline.errors import UserError

TASKS = ("classification", "regression")
TIMES = ("start_s", "end_s", "video_start_s", "video_end_s")
COLUMNS = ("item_id", "target", "label", "text", "source", "video", "side", "group", *TIMES)
SIDES = ("left", "right")
MISSING = ("NA", "NaN", "nan")  # R and pandas write these where a cell is empty

_URL = re.compile(r"https?://\S+")
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_ADVICE = "let corpora.NAME.table name a .csv, .tsv or .parquet file"
_OWN = {"video": pa.string(), "video_start_s": pa.float64(), "video_end_s": pa.float64(), "side": pa.string()}

Row = tuple[str, dict[str, Any]]  # ("FILE, row N", {column: value or None})


def inputs(settings: Mapping[str, Any]) -> list[str]:
    """The table. Raises UserError where it is missing."""
    return [str(_path(settings))]


def raw_files(settings: Mapping[str, Any]) -> list[str]:
    """The recordings and videos that the table names and that are on this machine, sorted."""
    path = _path(settings)
    named = {
        _located(row[column], path.parent)
        for _, row in _read(path)[0]
        for column in ("source", "video")
        if row.get(column) is not None
    }
    return sorted(name for name in named if not _URL.fullmatch(name) and os.path.isfile(name))


def modalities(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What the table has columns for: text, source and video give lexical, acoustic and visual."""
    path = _path(settings)
    columns = {column for _, row in _read(path)[0] for column, value in row.items() if value is not None}
    of_column = {"text": "lexical", "source": "acoustic", "video": "visual"}
    found = tuple(modality for column, modality in of_column.items() if column in columns)
    if not found:
        raise UserError(f"{path} has nothing to learn from: fill at least one of the columns text, source and video")
    return found


def prepare(settings: Mapping[str, Any]) -> Catalog:
    """The catalog of the table's rows.

    Raises UserError that names the row for: a missing column, an id that is no id or is repeated, a target that is
    empty or (regression) no number, a time that is no number or a cut that ends before it begins, a source that is cut
    beside another file as its video that is not, a side that is neither left nor right, a file that does not exist, a
    video that is a URL; and for an unknown task.
    """
    path = _path(settings)
    task = settings.get("task")
    if task not in TASKS:
        raise UserError(f"the task of {path} is {task!r}; let corpora.NAME.task be {' or '.join(TASKS)}")
    modalities(settings)
    rows, missing = _read(path)
    _check_columns(path, rows, task)
    ids, items = ItemIds(), []
    for where, row in rows:
        item_id = ids.add(_text(row.get("item_id")), where)
        source, video = _existing(row, "source", path.parent, where), _video(row, path.parent, where)
        items.append(
            {
                "item_id": item_id,
                "group": _text(row.get("group")) or item_id,
                "text": _text(row.get("text")),
                "source": source,
                "video": video,
                "side": _side(row.get("side"), where),
                **_cuts(_times(row, where), source, video, where),
            }
        )
    classes = None
    if task == "regression":
        for item, (where, row) in zip(items, rows, strict=True):
            item["target"] = _number(row.get("target"), "target", where)
    else:
        labels, classes = _classes(rows, path)
        for item, label in zip(items, labels, strict=True):
            item["target"], item["label"] = float(classes.index(label)), label
    unread = {column for _, row in rows for column in row} - set(COLUMNS)
    notes = [f"columns not read: {some(unread)}"] if unread else []
    notes += [f"{missing} cells hold {' or '.join(MISSING)}: read as empty"] if missing else []
    notes += not_utf8([path]) if path.suffix.lower() in _DELIMITERS else []
    own = {name: kind for name, kind in _OWN.items() if any(item[name] is not None for item in items)}
    return catalog(items, task, classes, path, own, notes=notes)


def _path(settings: Mapping[str, Any]) -> Path:
    return existing_file(required(settings, "table", "NAME"), _ADVICE)


def _read(path: Path) -> tuple[list[Row], int]:
    """The table's rows, and the number of cells that say of themselves that they are empty (MISSING).

    What is empty is None. Rows are numbered as in a spreadsheet (Parquet: from 1).
    """
    suffix = path.suffix.lower()
    missing = 0
    if suffix in _DELIMITERS:
        table = read_csv(path, delimiter=_DELIMITERS[suffix])
        for _, row in table:
            marked = [name for name in COLUMNS if name != "item_id" and row.get(name) in MISSING]
            row.update(dict.fromkeys(marked, ""))
            missing += len(marked)
    elif suffix in (".parquet", ".pq"):
        try:
            table = list(enumerate(pq.read_table(path).to_pylist(), start=1))
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} is no Parquet file that can be read ({error}); write it again") from None
    else:
        raise UserError(f"{path} is no table that can be read: {_ADVICE}")
    if not table:
        raise UserError(f"{path} has no rows; write one for each item")
    rows = [
        (f"{path}, row {number}", {name: None if _is_empty(value) else value for name, value in row.items()})
        for number, row in table
    ]
    return rows, missing


def _is_empty(value: Any) -> bool:
    return value == "" or (isinstance(value, float) and math.isnan(value))


def _check_columns(path: Path, rows: Sequence[Row], task: str) -> None:
    columns = rows[0][1].keys()
    if "item_id" not in columns:
        raise UserError(f"{path} has no column 'item_id' (it has: {', '.join(columns)[:200]}); add one")
    wanted = ("target",) if task == "regression" else ("label", "target")
    if not any(column in columns for column in wanted):
        raise UserError(f"{path} has no column {' or '.join(map(repr, wanted))}, which a {task} needs; add one")


def _classes(rows: Sequence[Row], path: Path) -> tuple[list[str], list[str]]:
    """The label of each row, and the names of the classes in the order of their index.

    With a column `label`: in the order of `target`, if there is that column too, else of the alphabet. With `target`
    alone, its values are the names, in numeric order if all are numbers.
    """
    named = "label" in rows[0][1]
    labels = []
    for where, row in rows:
        value = _text(row.get("label" if named else "target"))
        if value is None:
            raise UserError(
                f"{where}: the {'label' if named else 'target'} is empty (or NA); fill it or remove the row"
            )
        labels.append(value)
    order: dict[str, Any] = {}
    if named and "target" in rows[0][1]:
        first: dict[str, str] = {}
        for (where, row), label in zip(rows, labels, strict=True):
            target = _number(row.get("target"), "target", where)
            if order.setdefault(label, target) != target:
                raise UserError(f"{where}: the target of {label!r} is {target:g}, in {first[label]} {order[label]:g}")
            first.setdefault(label, where)
        if len(set(order.values())) < len(order):
            raise UserError(f"{path}: two of the labels {some(order)} have the same target; give each one of its own")
    else:
        numbers = {label: _as_float(label) for label in labels}
        numeric = not named and None not in numbers.values()
        order = {label: (numbers[label] if numeric else 0.0, label) for label in labels}
    if len(order) < 2:
        raise UserError(f"{path} has one class only ({labels[0]!r}); a classification needs two")
    return labels, sorted(order, key=order.__getitem__)


def _existing(row: Mapping[str, Any], column: str, folder: Path, where: str) -> str | None:
    """The file or address in `column`; None where it is empty."""
    if row.get(column) is None:
        return None
    located = _located(row[column], folder)
    if not _URL.fullmatch(located) and not os.path.isfile(located):
        raise UserError(
            f"{where}: the {column} {row[column]!r} does not exist (looked for {located}); "
            "a path starts at the table's folder"
        )
    return located


def _video(row: Mapping[str, Any], folder: Path, where: str) -> str | None:
    """The file in `video`; None where it is empty. Pictures are read where they lie: nothing fetches a page's."""
    video = _existing(row, "video", folder, where)
    if video is not None and _URL.fullmatch(video):
        raise UserError(f"{where}: the video {video!r} is a URL; fetch it and write the file's path")
    return video


def _located(name: Any, folder: Path) -> str:
    name = str(name)
    return name if _URL.fullmatch(name) else os.path.normpath(folder / name)


def _times(row: Mapping[str, Any], where: str) -> dict[str, float | None]:
    times = {name: None if row.get(name) is None else _number(row[name], name, where) for name in TIMES}
    for name, value in times.items():
        if value is not None and value < 0:
            raise UserError(f"{where}: {name} is {value:g}; times are seconds from the start of the file")
    for start, end in (TIMES[:2], TIMES[2:]):
        if times[end] is not None and times[end] <= (times[start] or 0.0):
            raise UserError(f"{where}: {end} ({times[end]:g}) is not after {start} ({times[start] or 0.0:g})")
    return times


def _cuts(times: dict[str, float | None], source: str | None, video: str | None, where: str) -> dict[str, float | None]:
    """`times`, where a video without a cut of its own has that of the source, if both are one recording."""
    start_s, end_s, *own = (times[name] for name in TIMES)
    if video is None or own != [None, None] or not (start_s or end_s):
        return times
    if source not in (None, video):
        raise UserError(
            f"{where}: start_s and end_s cut the source, and the video is another file, which may begin at another "
            "moment; write the video's own cut in video_start_s and video_end_s (a start of 0 alone takes all of it)"
        )
    return times | {"video_start_s": start_s, "video_end_s": end_s}


def _side(value: Any, where: str) -> str | None:
    if value is not None and value not in SIDES:
        raise UserError(f"{where}: side is {value!r}; write left or right, or leave it empty for the whole picture")
    return value


def _number(value: Any, column: str, where: str) -> float:
    number = _as_float(value)
    if number is None:
        raise UserError(f"{where}: {column} is {'empty' if value is None else repr(value)}; write a number")
    return number


def _as_float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
