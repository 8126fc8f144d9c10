"""Every Parquet file of the project is written and read here: schemas, whole writes, provenance, validation.

A file is written under a temporary name, synced and renamed, so that a reader never meets half of one. Its schema is
checked at write and at read. Its provenance (what made it, from what, with which settings, code and weights) is JSON in
the Parquet key-value metadata; `python -m pipeline describe FILE` prints it.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import UserError

FORMAT = 1
READ_BYTES = 1 << 20
MODALITIES = ("lexical", "acoustic", "visual")
ITEM_ID = re.compile(r"[A-Za-z0-9_.-]+")
PACKAGES_RECORDED = ("pandas", "pyarrow", "numpy", "torch", "transformers", "tensorflow-hub", "yt-dlp", "scikit-learn")

_ID = pa.field("item_id", pa.string(), nullable=False)
_STATUS = (pa.field("status", pa.string(), nullable=False), pa.field("reason", pa.string()))
_LABELS = (
    _ID,
    pa.field("group", pa.string(), nullable=False),
    pa.field("target", pa.float64(), nullable=False),
    pa.field("label", pa.string()),
)

_SCHEMAS: dict[str, tuple[pa.Field, ...]] = {
    "catalog": (
        *_LABELS[:2],
        pa.field("text", pa.string()),
        *_LABELS[2:],
        pa.field("source", pa.string()),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
    ),
    "media": (
        _ID,
        *_STATUS,
        pa.field("sha256", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("audio", pa.large_binary()),
    ),
    "features": (
        _ID,
        pa.field("index", pa.int32(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
    ),
    "dataset": _LABELS,
    "splits": (
        _ID,
        pa.field("protocol", pa.string(), nullable=False),
        pa.field("run", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ),
    "quality": (_ID, *_STATUS, *(pa.field(f"{modality}_frames", pa.int32()) for modality in MODALITIES)),
    "predictions": (
        _ID,
        pa.field("group", pa.string(), nullable=False),
        pa.field("target", pa.float64(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("teacher", pa.string(), nullable=False),
        pa.field("run", pa.int32(), nullable=False),
        pa.field("prediction", pa.float64(), nullable=False),
    ),
    "runs": (
        pa.field("table", pa.int32(), nullable=False),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("protocol", pa.string(), nullable=False),
        pa.field("settings", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("run", pa.int32(), nullable=False),
        pa.field("value", pa.float64(), nullable=False),
    ),
    "curves": (
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("protocol", pa.string(), nullable=False),
        pa.field("settings", pa.string(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("variant", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("run", pa.int32(), nullable=False),
        pa.field("epoch", pa.int32(), nullable=False),
        pa.field("train_loss", pa.float64()),
        pa.field("val_loss", pa.float64()),
        pa.field("val_task_loss", pa.float64()),
        pa.field("val_metric", pa.float64()),
        pa.field("kept", pa.bool_(), nullable=False),
    ),
}
_ROW_IS_AN_ITEM = frozenset({"catalog", "media", "dataset", "quality"})


def schema(kind: str, widths: Mapping[str, int] | None = None, extra: Iterable[pa.Field] = ()) -> pa.Schema:
    """The Arrow schema of a kind of file.

    `widths` adds vector columns (fixed-size lists of float32): ``{"embedding": 128}`` for features, a width for each
    modality for a dataset. `extra` adds further columns at the end (a corpus's own).
    """
    vectors = [pa.field(name, pa.list_(pa.float32(), width)) for name, width in (widths or {}).items()]
    return pa.schema([*_SCHEMAS[kind], *vectors, *extra])


def vectors_to_arrow(vectors: Any, valid: Any = None) -> pa.FixedSizeListArray:
    """A float32 matrix (n, width) as a fixed-size list column; rows where `valid` (n,) is false become null."""
    import numpy as np

    matrix = np.ascontiguousarray(vectors, dtype=np.float32)
    mask = None if valid is None else pa.array(~np.asarray(valid, dtype=bool))
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), matrix.shape[1], mask=mask)


def arrow_to_vectors(column: pa.ChunkedArray | pa.FixedSizeListArray) -> Any:
    """A fixed-size list column as a float32 matrix (n, width); null rows are NaN."""
    import numpy as np

    width = column.type.list_size
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    matrix = np.full((len(column), width), np.nan, dtype=np.float32)
    row = 0
    for chunk in chunks:
        valid = np.asarray(chunk.is_valid())
        matrix[row : row + len(chunk)][valid] = chunk.drop_null().flatten().to_numpy().reshape(-1, width)
        row += len(chunk)
    return matrix


def check_item_ids(ids: Iterable[str], where: str) -> None:
    """Raise UserError for an id that is no [A-Za-z0-9_.-]+ , or one that is repeated."""
    seen: set[str] = set()
    for item_id in ids:
        if not isinstance(item_id, str) or not ITEM_ID.fullmatch(item_id):
            raise UserError(f"{where}: item_id {item_id!r} may hold only letters, digits, '_', '.' and '-'; rename it")
        if item_id in seen:
            raise UserError(f"{where}: item_id {item_id!r} stands in two rows; every item needs an id of its own")
        seen.add(item_id)


def provenance(
    step: str,
    corpus: str | None,
    settings: Mapping[str, Any],
    code: str,
    inputs: Iterable[str | Path] = (),
    weights: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What made a file: everything that a rebuild needs, and no time of day, so that equal work gives equal files."""
    return {
        "format": FORMAT,
        "step": step,
        "corpus": corpus,
        "settings": dict(settings),
        "code": code,
        "weights": None if weights is None else dict(weights),
        "inputs": {str(path): sha256_of(path) for path in inputs},
        "versions": _versions(),
        **more,
    }


def sha256_of(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES_RECORDED:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


class Writer:
    """Streams tables into one file; see `writer`. `provenance` may be filled until the file is closed."""

    def __init__(self, sink: pq.ParquetWriter, file_schema: pa.Schema, path: Path, provenance: dict[str, Any]):
        self._sink, self._schema, self._path = sink, file_schema, path
        self.provenance = provenance

    def write(self, table: pa.Table) -> None:
        """Append `table` as one row group."""
        self._sink.write_table(_conform(table, self._schema, self._path), row_group_size=max(1, table.num_rows))


@contextmanager
def writer(path: str | Path, file_schema: pa.Schema, provenance: Mapping[str, Any]) -> Iterator[Writer]:
    """Open `path` for streaming; the file appears, whole, when the block ends, and not at all when it raises."""
    path = Path(path)
    with atomic(path) as temporary, pq.ParquetWriter(temporary, file_schema, **_encoding(file_schema)) as sink:
        handle = Writer(sink, file_schema, path, dict(provenance))
        yield handle
        sink.add_key_value_metadata({"provenance": json.dumps(handle.provenance, sort_keys=True)})


def _encoding(file_schema: pa.Schema) -> dict[str, Any]:
    """Sound is compressed already: as it is, a reader needs half the memory that a compressed dictionary takes."""
    as_it_is = {field.name for field in file_schema if pa.types.is_large_binary(field.type)}
    if not as_it_is:
        return {"compression": "zstd"}
    others = [name for name in file_schema.names if name not in as_it_is]
    return {
        "compression": dict.fromkeys(others, "zstd") | dict.fromkeys(as_it_is, "none"),
        "use_dictionary": others,
        "write_statistics": others,
    }


def write(path: str | Path, table: pa.Table, kind: str, provenance: Mapping[str, Any]) -> None:
    """Write `table` whole to `path` after checking it against the schema of `kind`.

    Columns beyond the fixed ones are kept. Raises UserError for a missing column, a wrong type, a null where none may
    be, or a repeated item_id.
    """
    fixed = _SCHEMAS[kind]
    names = {field.name for field in fixed}
    file_schema = schema(kind, extra=[field for field in table.schema if field.name not in names])
    if kind in _ROW_IS_AN_ITEM and "item_id" in table.column_names:
        check_item_ids(table["item_id"].to_pylist(), str(path))
    with writer(path, file_schema, provenance) as out:
        out.write(table)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; sync and rename it when the block ends, remove it when it raises."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: str | Path, kind: str, columns: list[str] | None = None) -> pa.Table:
    """Read a file of `kind` after checking its schema (columns beyond the fixed ones are allowed).

    Raises UserError that names the file and the column for a file that is missing, truncated, or of another shape.
    """
    with _opened(path) as file:
        _check(file.schema_arrow, kind, path)
        return file.read(columns=columns)


def open_file(path: str | Path, kind: str | None) -> pq.ParquetFile:
    """Open a file for reading in batches, after the same checks as `read`; None for a file of any kind.

    What is in memory is a batch and a little more: by default, pyarrow holds the whole compressed file.
    """
    file = _opened(path, pre_buffer=False, buffer_size=READ_BYTES)
    if kind is not None:
        _check(file.schema_arrow, kind, path)
    return file


def read_provenance(path: str | Path) -> dict[str, Any]:
    """The provenance of a file. Raises UserError where it has none: then this project did not write it."""
    with _opened(path) as file:
        raw = (file.metadata.metadata or {}).get(b"provenance")
    if raw is None:
        raise UserError(f"{path} carries no provenance: it was not written by this workflow")
    return json.loads(raw)


def shard_of(item_id: str, shards: int) -> int:
    """The shard (0 .. shards - 1) that an item belongs to: it depends on the item alone."""
    return int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:8], "big") % shards


def in_shard(table: pa.Table, shard: int, shards: int) -> pa.Table:
    """The rows of `table` whose item_id falls in `shard`."""
    mine = [shard_of(item_id, shards) == shard for item_id in table["item_id"].to_pylist()]
    return table.filter(pa.array(mine, pa.bool_()))


def _opened(path: str | Path, **reading: Any) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, **reading)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: make it with `snakemake {path}`") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is no whole Parquet file ({error}): delete it and run snakemake again") from None


def _check(found: pa.Schema, kind: str, path: str | Path) -> None:
    for field in _SCHEMAS[kind]:
        if field.name not in found.names:
            raise UserError(f"{path}: column {field.name!r} is missing, so this is no {kind} file; make it again")
        if found.field(field.name).type != field.type:
            raise UserError(
                f"{path}: column {field.name!r} holds {found.field(field.name).type}, a {kind} file has {field.type}; "
                "make it again"
            )


def _conform(table: pa.Table, file_schema: pa.Schema, path: Path) -> pa.Table:
    """`table` with the columns of the schema, in its order and types."""
    columns = []
    for field in file_schema:
        if field.name not in table.column_names:
            raise UserError(f"{path}: column {field.name!r} is missing from the rows to be written")
        column = table[field.name]
        try:
            column = column.cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(f"{path}: column {field.name!r} cannot be {field.type}: {error}") from None
        if not field.nullable and column.null_count:
            row = pc.index(pc.is_null(column), True).as_py()
            raise UserError(f"{path}: column {field.name!r} is empty in row {row}, and must not be")
        columns.append(column)
    return pa.table(columns, schema=file_schema)
