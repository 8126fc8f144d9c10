"""Joins a corpus by item_id and pools its features over time: catalog + media + features -> dataset and quality tables.

Reads catalog.parquet, media/*.parquet and features/{modality}/*.parquet; the command writes dataset.parquet and
quality.parquet. Nothing is ever matched by position, and no row depends on the order of another.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import store
from pipeline.errors import UserError

# Of vectors in memory at once; a batch is copied a few times on the way to its sums.
BATCH_BYTES = 16_000_000
LEAST_BATCH_ROWS = 1024


@dataclass(frozen=True)
class Pooled:
    """One vector an item: `vectors` (items, width) float32 for `item_ids`, from `frames` rows each."""

    item_ids: list[str]
    vectors: np.ndarray
    frames: np.ndarray
    reasons: dict[str, str]

    @classmethod
    def of(cls, vectors: Mapping[str, np.ndarray]) -> "Pooled":
        """Vectors that are pooled already, one an item."""
        ids = sorted(vectors)
        return cls(ids, np.stack([vectors[item_id] for item_id in ids]), np.ones(len(ids), np.int32), {})


def column_of(pooling: str | None) -> str:
    """The column of a feature file that a `pooling` setting stands for: the masked mean, or the one that all have."""
    return "embedding_mean" if pooling == "mean" else "embedding"


def pool(paths: Iterable[str | Path], column: str = "embedding") -> Pooled:
    """Mean over time of `column` for each item of some feature files.

    The rows of an item are summed in the order of their index, in float64, so that neither sharding nor neighbours
    change the result. Raises UserError if two files hold the same item or their widths differ.
    """
    ids: list[str] = []
    means: list[np.ndarray] = []
    frames: list[np.ndarray] = []
    reasons: dict[str, str] = {}
    owner: dict[str, str] = {}
    width = None
    for path in sorted(map(str, paths)):
        for item_id, entry in store.read_provenance(path).get("items", {}).items():
            if entry.get("reason"):
                reasons[item_id] = entry["reason"]
        with store.open_file(path, "features") as file:
            width = _same_width(file.schema_arrow, column, width, path)
            shard_ids, sums, counts = _sums(file, column, width)
        for item_id in shard_ids:
            if item_id in owner:
                raise UserError(f"{path}: item {item_id!r} has rows in {owner[item_id]} too; delete one of the files")
            owner[item_id] = path
        ids += shard_ids
        sums /= counts[:, None]
        means.append(sums.astype(np.float32))
        del sums  # not held beside the next file's
        frames.append(counts)
    if width is None:
        raise UserError("no feature file to pool: name at least one")
    return Pooled(ids, np.concatenate(means), np.concatenate(frames).astype(np.int32), reasons)


def _sums(file, column: str, width: int) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Ids, sums (items, width) float64 and row counts (items,) of one file, read in batches."""
    ids = pc.unique(file.read(["item_id"])["item_id"])
    sums, counts = np.zeros((len(ids), width)), np.zeros(len(ids), np.int64)
    batch_rows = max(LEAST_BATCH_ROWS, BATCH_BYTES // (4 * width))
    for batch in file.iter_batches(batch_rows, columns=["item_id", "index", column]):
        items = pc.index_in(batch["item_id"], ids).to_numpy()
        order = np.lexsort((batch["index"].to_numpy(), items))
        np.add.at(sums, items[order], store.arrow_to_vectors(batch[column])[order].astype(np.float64))
        np.add.at(counts, items, 1)
    return ids.to_pylist(), sums, counts


def _same_width(file_schema: pa.Schema, column: str, width: int | None, path: str) -> int:
    if column not in file_schema.names:
        raise UserError(f"{path}: has no column {column!r}; choose another pooling or make the features again")
    found = file_schema.field(column).type.list_size
    if width not in (None, found):
        raise UserError(f"{path}: vectors of {found} values beside others of {width}; make all shards again")
    return found


def join(catalog: pa.Table, features: Mapping[str, Pooled]) -> pa.Table:
    """One row an item of the catalog, in the order of item_id; a modality that an item lacks is null.

    Raises UserError for features of an item that the catalog does not have: they stem from another catalog.
    """
    catalog = catalog.sort_by("item_id")
    ids = catalog["item_id"].to_pylist()
    row_of = {item_id: row for row, item_id in enumerate(ids)}
    columns = {name: catalog[name] for name in ("item_id", "group", "target", "label")}
    for modality in store.MODALITIES:
        if modality not in features:
            continue
        pooled = features[modality]
        strangers = [item_id for item_id in pooled.item_ids if item_id not in row_of]
        if strangers:
            raise UserError(
                f"{modality} features of {strangers[0]!r}, which the catalog does not have; make the features again"
            )
        rows = np.array([row_of[item_id] for item_id in pooled.item_ids], dtype=np.int64)
        vectors = np.zeros((len(ids), pooled.vectors.shape[1]), np.float32)
        valid = np.zeros(len(ids), bool)
        vectors[rows], valid[rows] = pooled.vectors, True
        columns[modality] = store.vectors_to_arrow(vectors, valid)
    return pa.table(columns)


def quality(catalog: pa.Table, media: pa.Table | None, features: Mapping[str, Pooled]) -> pa.Table:
    """What became of each item: its status, why something is missing, and how many frames each modality has.

    Status is the media's (unavailable, failed) where that went wrong, else `ok` if each modality has a row and
    `incomplete` if not.
    """
    ids = sorted(catalog["item_id"].to_pylist())
    fetched: dict[str, tuple[str, str | None]] = {}
    if media is not None:
        columns = (media[name].to_pylist() for name in ("item_id", "status", "reason"))
        fetched = {item_id: (status, reason) for item_id, status, reason in zip(*columns, strict=True)}
    frames = {name: dict(zip(p.item_ids, p.frames.tolist(), strict=True)) for name, p in features.items()}
    rows = []
    for item_id in ids:
        status, reason = fetched.get(item_id, ("ok", None))
        reasons = [reason] if reason else []
        for name in features:
            why = features[name].reasons.get(item_id)
            if item_id not in frames[name]:
                status = "incomplete" if status == "ok" else status
                why = why or "no features"
            if why and why not in reasons:
                reasons.append(f"{name}: {why}")
        counts = {
            f"{name}_frames": frames[name].get(item_id, 0) if name in frames else None for name in store.MODALITIES
        }
        rows.append({"item_id": item_id, "status": status, "reason": "; ".join(reasons) or None, **counts})
    return pa.Table.from_pylist(rows, schema=store.schema("quality"))
