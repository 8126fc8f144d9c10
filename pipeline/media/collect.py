"""Items in, rows of sound out: several at a time, in the order of the items, each with a status and a reason.

What was fetched is put aside at once, so that a job which is cut off does not fetch it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.media import fetch
from pipeline.media.audio import Audio, AudioError, duration_of, to_flac

AT_ONCE = 4  # downloads, or conversions, of one job
OK, UNAVAILABLE, FAILED = "ok", "unavailable", "failed"


@dataclass(frozen=True)
class Item:
    """A catalog row, as far as its sound goes."""

    item_id: str
    source: str | None  # URL or path
    start_s: float | None = None
    end_s: float | None = None

    def input_hash(self) -> str:
        """Changes with the source, the cut, and (a local file) its size and time of change: then a row is made anew."""
        state = None
        if self.source is not None and not fetch.is_url(self.source) and os.path.exists(self.source):
            entry = os.stat(self.source)
            state = [entry.st_size, entry.st_mtime_ns]
        return hashlib.sha256(json.dumps([self.source, state, self.start_s, self.end_s]).encode()).hexdigest()


@dataclass(frozen=True)
class Row:
    """A row of a media file: FLAC and its SHA-256 where status is ok, a reason where it is not.

    status: ok; unavailable (no source, gone from the site, a local file that is missing or broken: the same again
    until its input changes); failed (a passing cause: worth another try).
    """

    item_id: str
    status: str
    reason: str | None = None
    sha256: str | None = None
    duration_s: float | None = None
    audio: bytes | None = None

    @classmethod
    def of(cls, item: Item, audio: Audio) -> Row:
        return cls(item.item_id, OK, None, hashlib.sha256(audio.flac).hexdigest(), audio.duration_s, audio.flac)


class Aside:
    """A folder of FLAC files, one for each recording that was fetched by a job that has not finished yet."""

    def __init__(self, folder: Path, code: str):
        self._folder, self._code = folder, code

    def get(self, item: Item) -> Audio | None:
        path = self._path(item)
        if not path.exists():
            return None
        flac = path.read_bytes()
        try:
            return Audio(flac, duration_of(flac))
        except AudioError:  # the machine went down while it was written: fetched again
            path.unlink()
            return None

    def put(self, item: Item, audio: Audio) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(audio.flac)
        os.replace(name, self._path(item))  # whole or not there at all

    def _path(self, item: Item) -> Path:
        return self._folder / f"{item.input_hash()}-{self._code}.flac"


def collect(items: Iterable[Item], proxy: str | None, aside: Aside) -> Iterator[Row]:
    """Make the row of each item, AT_ONCE at a time; rows come in the order of the items, at most 2 AT_ONCE wait.

    One item's failure is its row's; what is nobody's data (a full disk, a fault of the program) ends the job.
    When the caller stops early, the downloads under way are broken off.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="media")
    waiting: deque[Future[Row]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(_make, item, proxy, aside, stop))
            if len(waiting) >= 2 * AT_ONCE:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _make(item: Item, proxy: str | None, aside: Aside, stop: threading.Event) -> Row:
    if item.source is None:
        return Row(item.item_id, UNAVAILABLE, "no source")
    if not fetch.is_url(item.source):
        try:
            return Row.of(item, to_flac(item.source, item.start_s, item.end_s))
        except AudioError as error:
            return Row(item.item_id, UNAVAILABLE, f"{item.source}: {error}")
    audio = aside.get(item)
    if audio is None:
        try:
            with tempfile.TemporaryDirectory(prefix="fetch-") as folder:
                recording = fetch.fetch(item.source, Path(folder), proxy, stop)
                audio = to_flac(recording, item.start_s, item.end_s)
        except fetch.Gone as error:
            return Row(item.item_id, UNAVAILABLE, str(error))
        except (fetch.Passing, AudioError) as error:  # what arrives unreadable was perhaps cut on its way
            return Row(item.item_id, FAILED, str(error))
        aside.put(item, audio)
    return Row.of(item, audio)
