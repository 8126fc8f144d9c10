"""The command `media`: a shard's catalog rows in, its media file out (16 kHz mono FLAC, or why there is none).

Rows of the file that stands there already are kept where the item's input still holds, unless they failed.
"""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline import kept, store
from pipeline.errors import UserError
from pipeline.fingerprint import fingerprint
from pipeline.media.collect import FAILED, UNAVAILABLE, Aside, Item, Row, collect
from pipeline.media.fetch import expand_proxy
from pipeline.progress import log, progress

# A row group ends at whichever comes first, so that a reader can stream hours-long recordings.
ROWS_IN_A_GROUP = 8
BYTES_IN_A_GROUP = 16_000_000
TRIES = 3


def run(
    corpus: str,
    catalog_path: str | Path,
    shard: int,
    shards: int,
    settings: Mapping[str, Any],
    attempt: int,
    output_path: str | Path,
) -> None:
    """Write the media file of one shard, rows sorted by item_id. The last one, kept beside it, is a source of rows.

    settings: {"proxy": address or null}, environment variables allowed. `attempt` goes into the provenance beside the
    count of failed rows ("failed"), and whether to ask for them again ("again"): not where the same ones have failed
    TRIES times, since all that is made of this file, up to the tables, would be made again each time. A call tries
    failed rows again in any case.

    A job that is cut off leaves the file as it was, and what it fetched in a folder beside (`OUTPUT.partial`), where
    the next one finds it.

    Raises UserError for a catalog that is missing or wrong, and for a proxy that names no variable that is set.
    """
    output_path = Path(output_path)
    proxy = expand_proxy(settings.get("proxy"))
    columns = ["item_id", "source", "start_s", "end_s"]
    catalog = store.in_shard(store.read(catalog_path, "catalog", columns), shard, shards).sort_by("item_id")
    items = [Item(**row) for row in catalog.to_pylist()]
    inputs = {item.item_id: item.input_hash() for item in items}
    # Not the whole step's code: who mends a message of the download need not fetch 2,500 talks again.
    code_of_sound = fingerprint("pipeline.media.audio")
    previous = _Previous.open(kept.beside(output_path), code_of_sound)
    held = {item.item_id for item in items if previous and previous.holds(item.item_id, inputs[item.item_id])}
    partial = output_path.with_name(f"{output_path.name}.partial")

    provenance = store.provenance(
        step="media",
        corpus=corpus,
        settings={},  # a proxy changes no row, and may hold a password
        code=fingerprint("pipeline.media.shard"),
        inputs=[catalog_path],
        code_of_sound=code_of_sound,
        shard=f"{shard}/{shards}",
        attempt=attempt,
        items={item_id: {"input": digest} for item_id, digest in inputs.items()},
    )
    without = {UNAVAILABLE: set(), FAILED: set()}
    new = collect((item for item in items if item.item_id not in held), proxy, Aside(partial, code_of_sound))
    with _terminated_as_interrupted(), store.writer(output_path, store.schema("media"), provenance) as out:
        groups = _Groups(out)
        try:
            for item in progress(items, what=f"{corpus} recordings"):
                row = previous.row(item.item_id) if item.item_id in held else next(new)
                if row.status in without:
                    without[row.status].add(item.item_id)
                    if item.item_id not in held:
                        log(f"{item.item_id}: {row.status}: {row.reason}")
                groups.add(row)
        finally:
            new.close()  # type: ignore[attr-defined]
        groups.flush()
        failed = without[FAILED]
        tries = previous.tries if previous and previous.failed == failed else 0
        tries += bool(failed)
        again = 0 < tries < TRIES
        out.provenance |= {"failed": len(failed), "tries": tries, "again": again}
    kept.keep(output_path)
    shutil.rmtree(partial, ignore_errors=True)
    log(
        f"{corpus} media: {len(items) - len(held)} computed, {len(held)} kept, "
        f"{len(without[UNAVAILABLE])} unavailable, {len(failed)} failed"
    )
    if failed and not again:
        log(f"the same have failed {tries} times: they are left so until `snakemake --forcerun media` asks again")


class _Groups:
    """Gathers rows and writes them a row group at a time."""

    def __init__(self, out: store.Writer):
        self._out, self._rows, self._bytes = out, [], 0

    def add(self, row: Row) -> None:
        self._rows.append(asdict(row))
        self._bytes += len(row.audio or b"")
        if len(self._rows) >= ROWS_IN_A_GROUP or self._bytes >= BYTES_IN_A_GROUP:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            self._out.write(pa.Table.from_pylist(self._rows, store.schema("media")))
        self._rows, self._bytes = [], 0


class _Previous:
    """The media file of an earlier run: which rows still hold, and the rows, a row group in memory at a time."""

    def __init__(self, file: Any, inputs: dict[str, str], tries: int):
        self._file = file
        self._inputs = inputs
        self.tries, self.failed = tries, set()
        self._place: dict[str, tuple[int, int]] = {}
        for group in range(file.num_row_groups):
            table = file.read_row_group(group, columns=["item_id", "status"])
            for index, row in enumerate(table.to_pylist()):
                if row["status"] == FAILED:
                    self.failed.add(row["item_id"])
                else:
                    self._place[row["item_id"]] = (group, index)
        self._group, self._table = -1, None

    @classmethod
    def open(cls, path: Path, code_of_sound: str) -> _Previous | None:
        """None where there is no file, or one that another version of the program made, or that is damaged."""
        if not path.exists():
            return None
        try:
            made_by = store.read_provenance(path)
            if (made_by.get("code_of_sound"), made_by.get("format")) != (code_of_sound, store.FORMAT):
                return None
            inputs = {item_id: item["input"] for item_id, item in made_by["items"].items()}
            return cls(store.open_file(path, "media"), inputs, made_by["tries"])
        except UserError as error:
            log(f"{error}; all of its rows are made anew")
            return None

    def holds(self, item_id: str, input_hash: str) -> bool:
        return item_id in self._place and self._inputs.get(item_id) == input_hash

    def row(self, item_id: str) -> Row:
        group, index = self._place[item_id]
        if group != self._group:
            self._group, self._table = group, self._file.read_row_group(group)
        return Row(**self._table.slice(index, 1).to_pylist()[0])


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM (a scheduler's way to end a job) unwind as Ctrl-C does, so that no temporary file stays behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
