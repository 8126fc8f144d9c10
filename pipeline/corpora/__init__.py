"""From a corpus as it was released to catalog rows, one file a corpus; this file holds what they share.

Every adapter (`ted`, `iemocap`, `mit`, `table`) has the same four functions over its settings in the config:

    inputs(settings)      annotation files that the catalog is made from
    raw_files(settings)   recordings below the corpus's folder
    modalities(settings)  which of lexical, acoustic, visual the corpus can have
    prepare(settings)     the Catalog: one row an item, and what was left out, each with its reason

They are looked up by name (`adapter`), not imported, so that a change in one corpus recomputes no other. Ids are
cleaned and checked here and nowhere else: nothing behind the catalog builds a path from outside text.
"""

import codecs
import csv
import importlib
import io
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from pipeline import store
from pipeline.errors import UserError

KNOWN = ("ted", "iemocap", "mit")
MAX_ID_LENGTH = 200
MAX_FIELD_BYTES = 1 << 28  # a transcript of an hours-long recording is one CSV field

_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Catalog:
    """The items of a corpus.

    table: schema `catalog` plus the corpus's own columns, sorted by item_id, so that the order of the files it was read
        from leaves no trace.
    task: "classification" or "regression".
    classes: names of the classes in the order of their index (`target`); None for a regression.
    left_out: what has no row and why: an item's id, or "FILE row N" where there is no id or the id has another row.
    notes: lines for the log: how many items, what they lack, what was left out.
    """

    table: pa.Table
    task: str
    classes: list[str] | None
    left_out: dict[str, str]
    notes: tuple[str, ...] = ()


def adapter(corpus: str) -> ModuleType:
    """The module that reads `corpus`; a name that is no known corpus is a user's own table."""
    return importlib.import_module(f"pipeline.corpora.{corpus if corpus in KNOWN else 'table'}")


def catalog(
    rows: Iterable[Mapping[str, Any]],
    task: str,
    classes: Sequence[str] | None,
    where: str | Path,
    own: Mapping[str, pa.DataType] | None = None,
    left_out: Mapping[str, str] | None = None,
    notes: Iterable[str] = (),
) -> Catalog:
    """Assemble a Catalog from rows (dicts; an absent key is a null, a key that is no column is not read).

    `own` names the corpus's own columns and their types. Raises UserError that names `where` if there is no row.
    """
    rows = sorted(rows, key=lambda row: row["item_id"])
    left_out = dict(left_out or {})
    if not rows:
        why = f"; the first of {len(left_out)} left out: {next(iter(left_out.items()))}" if left_out else ""
        raise UserError(f"{where} holds no usable item{why}; check that the config names the right files")
    fields = [pa.field(name, kind) for name, kind in (own or {}).items()]
    table = pa.Table.from_pylist(rows, schema=store.schema("catalog", extra=fields))
    head = f"{len(rows)} items in {len(set(table['group'].to_pylist()))} groups"
    return Catalog(table, task, None if classes is None else list(classes), left_out, (head, *notes))


def clean_id(raw: str) -> str:
    """An id made of A-Z a-z 0-9 _ . - alone, from any text.

    Accents are dropped and everything else becomes `_`. The result begins with neither `.` nor `-` (no hidden file, no
    `..`, no command-line option) and is at most 200 characters long. It is empty if nothing is left; a clean id comes
    back as it is.
    """
    ascii_text = unicodedata.normalize("NFKD", raw.strip()).encode("ascii", "ignore").decode("ascii")
    return _NOT_IN_AN_ID.sub("_", ascii_text.strip()).lstrip(".-")[:MAX_ID_LENGTH]


class ItemIds:
    """The ids of one catalog: each is checked, and given out once."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}

    def add(self, raw: str | None, where: str) -> str:
        """The id in `raw` if it is clean and new.

        Raises UserError that names `where` (and, for a repeated id, the place where it was seen first).
        """
        if not raw:
            raise UserError(f"{where}: item_id is empty; give the item a name of its own")
        cleaned = clean_id(raw)
        if raw != cleaned:
            advice = f"write {cleaned!r}" if cleaned else "give the item a name"
            raise UserError(
                f"{where}: item_id {raw[:80]!r} may hold only letters, digits, '_', '.' and '-', may not begin with "
                f"'.' or '-', and has at most {MAX_ID_LENGTH} characters; {advice}"
            )
        if raw in self._first:
            raise UserError(
                f"{where}: item_id {raw!r} stands already in {self._first[raw]}; make one of them different"
            )
        self._first[raw] = where
        return raw


def counted(reasons: Iterable[str]) -> list[str]:
    """Lines such as "1849 left out: consensus emotion fru", the most frequent reason first."""
    ordered = sorted(Counter(reasons).items(), key=lambda entry: (-entry[1], entry[0]))
    return [f"{count} left out: {reason}" for reason, count in ordered]


def some(names: Iterable[str], most: int = 5) -> str:
    """ "a, b, c" in sorted order, cut after `most` names with the number of those that follow."""
    ordered = sorted(names)
    rest = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + rest


def required(settings: Mapping[str, Any], key: str, corpus: str) -> Path:
    """The path that `settings` has under `key`; a UserError names the config key where it has none."""
    if not settings.get(key):
        raise UserError(f"the config names no {key!r} for the corpus {corpus}: set corpora.{corpus}.{key}")
    return Path(settings[key])


def existing_file(path: str | Path, advice: str) -> Path:
    """`path` if it is a file; a UserError with `advice` (where to get it) if not."""
    if not Path(path).is_file():
        raise UserError(f"{path} is no file: {advice}")
    return Path(path)


def existing_folder(path: str | Path, advice: str) -> Path:
    """`path` if it is a folder; a UserError with `advice` (where to get it) if not."""
    if not Path(path).is_dir():
        raise UserError(f"{path} is no folder: {advice}")
    return Path(path)


def is_release_file(path: Path, suffix: str) -> bool:
    """Whether a file has this suffix (in any case) and is no resource file (`._NAME`) that macOS left in a release."""
    return path.suffix.lower() == suffix and not path.name.startswith(".")


def read_text(path: str | Path) -> str:
    """A release's text file: UTF-8, and a line that is none Windows-1252, as older releases are (see `not_utf8`).

    A byte-order mark is dropped. Raises UserError for UTF-16.
    """
    return "".join(text for text, _ in _decoded_lines(path))


def not_utf8(paths: Iterable[str | Path]) -> list[str]:
    """A note on the lines of these text files that are read as Windows-1252; no note where there are none."""
    counts = {str(path): sum(not is_utf8 for _, is_utf8 in _decoded_lines(path)) for path in paths}
    found = [path for path, count in counts.items() if count]
    return [f"{sum(counts.values())} lines of {some(found)} are no UTF-8: read as Windows-1252"] if found else []


def _decoded_lines(path: str | Path) -> Iterator[tuple[str, bool]]:
    """Each line with its end, and whether it is UTF-8: a stray byte must not spoil the lines around it."""
    raw = Path(path).read_bytes()
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{path} is UTF-16; save it as UTF-8 (in Excel: CSV UTF-8)")
    for line in raw.removeprefix(codecs.BOM_UTF8).splitlines(keepends=True):
        try:
            yield line.decode("utf-8"), True
        except UnicodeDecodeError:
            yield line.decode("cp1252", errors="replace"), False


def read_csv(path: str | Path, columns: Iterable[str] = (), delimiter: str = ",") -> list[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with a header, as (row number, {column: text}); values are stripped.

    Rows are numbered as in a spreadsheet: the header is row 1, an empty row has a number and is skipped. Raises
    UserError for a file without the named columns, and for a row that is shorter or longer than the header.
    """
    rows = csv_rows(path, delimiter)
    header = [name.strip() for name in rows[0][1]] if rows else []
    missing = [name for name in columns if name not in header]
    if missing:
        raise UserError(f"{path} has no column {missing[0]!r} (its header: {', '.join(header)[:200]}); add the column")
    repeated = [name for name, count in Counter(header).items() if count > 1]
    if repeated:
        raise UserError(f"{path} has two columns {repeated[0]!r}; rename or remove one")
    table = []
    for number, fields in rows[1:]:
        if len(fields) != len(header):
            raise UserError(
                f"{path}, row {number} has {len(fields)} fields, the header has {len(header)}: "
                "the row is cut off, or a field with a comma in it has no quotes"
            )
        table.append((number, {name: value.strip() for name, value in zip(header, fields, strict=True)}))
    return table


def csv_rows(path: str | Path, delimiter: str = ",") -> list[tuple[int, list[str]]]:
    """The rows of a CSV file that are not empty, as (row number, fields), the header (row 1) among them."""
    csv.field_size_limit(MAX_FIELD_BYTES)
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter)
    try:
        return [(number, fields) for number, fields in enumerate(reader, start=1) if any(map(str.strip, fields))]
    except csv.Error as error:
        raise UserError(f"{path} is no CSV file that can be read ({error}); write it again") from None
