"""The command `features`: a shard's catalog rows (and media) in, its feature file out.

Rows of the file that stands there already are kept where the item's input and everything else that they depend on
still hold; only the others are computed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import kept, store
from pipeline.errors import UserError
from pipeline.features import bundle
from pipeline.features.extractor import Item
from pipeline.progress import log, progress

ROWS_IN_A_GROUP = 4096


@dataclass(frozen=True)
class Entry:
    """An item of the shard before its features: what tells its input from another, and why it may have none."""

    item_id: str
    input: str
    reason: str | None
    item: Item | None  # None where the sound is still to be read from the media file


def run(
    modality: str,
    catalog_path: str | Path,
    media_path: str | Path | None,
    shard: int,
    shards: int,
    settings: Mapping[str, Any],
    weights_path: str | Path | None,
    output_path: str | Path,
) -> None:
    """Write the features of one modality for the items of one shard, sorted by item_id and index.

    `media_path` is needed for the acoustic modality. The last file, kept beside this one, is a source of rows.
    Raises UserError for files, settings or weights that are missing or wrong.
    """
    from pipeline.features import compute, engine

    checked = bundle.check(modality, settings)
    code = bundle.fingerprint_of(modality, settings)
    plan = compute.plan(checked.device, checked.precision).as_dict()
    weights = None if weights_path is None else store.sha256_of(weights_path)
    same = {"code": code, "plan": plan, "weights_file": weights, "format": store.FORMAT}
    entries = _entries(modality, catalog_path, media_path, shard, shards)
    previous = _Previous.open(kept.beside(output_path), same)
    held = {e.item_id for e in entries if previous and previous.inputs.get(e.item_id) == e.input}
    to_compute = [entry for entry in entries if entry.item_id not in held and entry.reason is None]

    extractor = None
    if to_compute or previous is None:
        extractor = bundle.load(modality, settings, weights_path)
        description = extractor.bundle.as_dict()
    else:
        description = previous.bundle
    provenance = store.provenance(
        step=f"features {modality}",
        corpus=store.read_provenance(catalog_path).get("corpus"),
        settings=dict(settings),
        code=code,
        inputs=[path for path in (catalog_path, media_path) if path is not None],
        weights={
            "name": description["weights"],
            "revision": description["revision"],
            "untrained": description["untrained"],
            "licence": description["licence"],
            "file_sha256": weights,
        },
        extractor=description,
        shard=f"{shard}/{shards}",
        same=same,
    )
    items: dict[str, dict[str, Any]] = {}
    widths = dict(description["widths"])
    with store.writer(output_path, store.schema("features", widths), provenance) as out:
        groups = _Groups(out, store.schema("features", widths))
        computed = iter(())
        if extractor is not None and to_compute:
            rows = engine.extract(extractor, _items(to_compute, media_path))
            computed = progress(rows, total=len(to_compute), what=f"{modality} items")
        early: dict[str, engine.Rows] = {}
        for entry in entries:
            if entry.item_id in held:
                record = previous.items[entry.item_id]
                groups.add(previous.take(entry.item_id, record["rows"]))
            elif entry.reason is not None:
                record = {"rows": 0, "reason": entry.reason}
            else:
                while entry.item_id not in early:
                    done = next(computed)
                    early[done.item_id] = done
                done = early.pop(entry.item_id)
                groups.add(_table(done, widths))
                record = {"rows": len(done.index), "reason": done.reason}
            items[entry.item_id] = {**record, "input": entry.input}
        next(computed, None)
        groups.close()
        out.provenance["items"] = items
    kept.keep(output_path)
    without = sum(record["rows"] == 0 for record in items.values())
    log(f"{modality}: {len(to_compute)} computed, {len(held)} kept" + (f"; {without} without rows" if without else ""))


def _entries(
    modality: str, catalog_path: str | Path, media_path: str | Path | None, shard: int, shards: int
) -> list[Entry]:
    """The shard's items in order of item_id."""
    wanted = ["item_id", "text", "video", "video_start_s", "video_end_s", "side"]
    with store.open_file(catalog_path, "catalog") as file:
        names = set(file.schema_arrow.names)
    table = store.read(catalog_path, "catalog", [name for name in wanted if name in names])
    rows = sorted(store.in_shard(table, shard, shards).to_pylist(), key=lambda row: row["item_id"])
    if modality == "lexical":
        return [_lexical(row) for row in rows]
    if modality == "visual":
        return [_visual(row) for row in rows]
    if media_path is None:
        raise UserError("features acoustic: the sound is read from a media file; name it with --media")
    media = store.read(media_path, "media", ["item_id", "status", "reason", "sha256"]).to_pylist()
    by_id = {row["item_id"]: row for row in media}
    return [_acoustic(row["item_id"], by_id.get(row["item_id"]), media_path) for row in rows]


def _lexical(row: Mapping[str, Any]) -> Entry:
    text = row["text"]
    if text is None or not text.strip():
        return Entry(row["item_id"], _hash(None), "no text", None)
    return Entry(row["item_id"], _hash(text), None, Item(row["item_id"], text=text))


def _acoustic(item_id: str, media: Mapping[str, Any] | None, media_path: str | Path) -> Entry:
    if media is None:
        return Entry(item_id, _hash(None), f"not in {Path(media_path).name}", None)
    if media["status"] != "ok":
        reason = media["reason"] or media["status"]
        return Entry(item_id, _hash([media["status"], reason]), reason, None)
    return Entry(item_id, media["sha256"], None, None)


def _visual(row: Mapping[str, Any]) -> Entry:
    path = row.get("video")
    if not path:
        return Entry(row["item_id"], _hash(None), "no video", None)
    start_s, end_s, side = row.get("video_start_s"), row.get("video_end_s"), row.get("side")
    try:
        status = os.stat(path)
        stamp = [status.st_size, status.st_mtime_ns]
    except OSError:
        stamp = None
    what = _hash([path, stamp, start_s, end_s, side])
    if stamp is None:
        return Entry(row["item_id"], what, f"no such file: {path}", None)
    item = Item(row["item_id"], video=path, start_s=start_s, end_s=end_s, side=side)
    return Entry(row["item_id"], what, None, item)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _items(entries: list[Entry], media_path: str | Path | None) -> Iterator[Item]:
    """What the extractor reads. Sound comes from the media file one recording at a time, in the file's order."""
    if all(entry.item is not None for entry in entries):
        yield from (entry.item for entry in entries if entry.item is not None)
        return
    wanted = {entry.item_id for entry in entries}
    with store.open_file(media_path, "media") as file:
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, ["item_id"])["item_id"].to_pylist()
            if wanted.isdisjoint(ids):
                continue
            for batch in file.iter_batches(batch_size=1, row_groups=[group], columns=["item_id", "audio"]):
                item_id = batch["item_id"][0].as_py()
                if item_id in wanted:
                    audio = _first_value(batch["audio"])
                    del batch  # hours of sound are not held twice
                    yield Item(item_id, audio=audio)
                    del audio


def _first_value(column: pa.LargeBinaryArray) -> bytes:
    """The bytes of a column's first row; copied once, where Arrow's own scalar would copy them twice."""
    _, offsets, values = column.buffers()
    start, end = np.frombuffer(offsets, np.int64)[column.offset : column.offset + 2]
    return bytes(memoryview(values)[start:end])


def _table(rows: Any, widths: Mapping[str, int]) -> pa.Table:
    count = len(rows.index)
    columns = {
        "item_id": pa.array([rows.item_id] * count, pa.string()),
        "index": pa.array(rows.index, pa.int32()),
        "start_s": pa.array(rows.start_s, pa.float64()),
        "end_s": pa.array(rows.end_s, pa.float64()),
    }
    for name in widths:
        columns[name] = store.vectors_to_arrow(rows.columns[name])
    return pa.table(columns)


class _Groups:
    """Gathers items' rows into row groups of a few thousand, the same whichever rows were kept."""

    def __init__(self, out: store.Writer, schema: pa.Schema):
        self._out, self._schema, self._tables, self._rows = out, schema, [], 0

    def add(self, table: pa.Table) -> None:
        if table.num_rows == 0:
            return
        self._tables.append(pa.Table.from_arrays([table[name] for name in self._schema.names], schema=self._schema))
        self._rows += table.num_rows
        if self._rows >= ROWS_IN_A_GROUP:
            self.close()

    def close(self) -> None:
        if self._tables:
            self._out.write(pa.concat_tables(self._tables).combine_chunks())
        self._tables, self._rows = [], 0


class _Previous:
    """The rows of an earlier feature file, read once from front to back."""

    def __init__(self, path: Path, provenance: dict[str, Any]):
        self.items: dict[str, dict[str, Any]] = provenance["items"]
        self.inputs = {item_id: item["input"] for item_id, item in self.items.items()}
        self.bundle: dict[str, Any] = provenance["extractor"]
        self._file = store.open_file(path, "features")
        self._tables = self._file.iter_batches(batch_size=ROWS_IN_A_GROUP)
        self._left: pa.Table | None = None

    @classmethod
    def open(cls, path: Path, same: Mapping[str, Any]) -> _Previous | None:
        """The file at `path` if its rows may be kept: whole, and made the same way."""
        if not path.is_file():
            return None
        try:
            provenance = store.read_provenance(path)
            if provenance.get("same") != same or "items" not in provenance:
                return None
            return cls(path, provenance)
        except UserError as error:
            log(f"no rows are kept: {error}")
            return None

    def take(self, item_id: str, count: int) -> pa.Table:
        """The next rows of `item_id`; those of items before it are passed over."""
        taken: list[pa.Table] = []
        while count:
            if self._left is None or self._left.num_rows == 0:
                self._left = pa.Table.from_batches([next(self._tables)])
            ids = np.asarray(self._left["item_id"].to_pylist())
            start = int(np.searchsorted(ids, item_id))
            found = min(count, len(ids) - start)
            if found:
                taken.append(self._left.slice(start, found))
            count -= found
            self._left = self._left.slice(start + found)
        return pa.concat_tables(taken) if taken else self._file.schema_arrow.empty_table()
