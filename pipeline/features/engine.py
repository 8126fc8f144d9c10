"""Items in, their rows out: units of many items share a batch while reader threads prepare the next ones.

A batch holds units of one size only, and a unit's size depends on itself alone, so an item's rows do not change with
its neighbours. Memory is bounded by a queue and by the number of items in work, not by the length of the shard.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from pipeline.errors import UserError
from pipeline.features import compute
from pipeline.features.extractor import Extractor, Item, NoRows, Unit
from pipeline.progress import log

READERS = max(2, min(4, (os.cpu_count() or 2) // 2))
QUEUE_MESSAGES = 16
MESSAGE_UNITS = 16


@dataclass
class Rows:
    """An item's rows, in order of index. `columns`: name -> float32 (n, width); `reason`: why none, or a note."""

    item_id: str
    index: np.ndarray
    start_s: list[float | None]
    end_s: list[float | None]
    columns: dict[str, np.ndarray]
    reason: str | None


@dataclass(frozen=True)
class _Row:
    """What is left of a unit once it is computed: its input is let go."""

    index: int
    start_s: float | None
    end_s: float | None
    values: dict[str, np.ndarray]


@dataclass
class _Work:
    """An item whose units are being read and computed."""

    item_id: str
    waiting: int = 0  # units that were read and not yet computed
    read: bool = False
    without_rows: bool = False
    reason: str | None = None
    rows: list[_Row] = field(default_factory=list)

    @property
    def done(self) -> bool:
        return self.read and self.waiting == 0


@dataclass(frozen=True)
class _Message:
    """From a reader to the main thread: units of item number `number`, its end, or an error that ends the job."""

    number: int
    item_id: str
    units: tuple[Unit, ...] = ()
    read: bool = False
    without_rows: bool = False
    reason: str | None = None
    error: BaseException | None = None


def extract(extractor: Extractor, items: Iterable[Item], readers: int = READERS) -> Iterator[Rows]:
    """The rows of each item, in the order of `items`.

    Raises what a reader raised (NoRows apart), and UserError where memory runs out with a single unit.
    """
    reading = _Readers(extractor, items, readers)
    batches = _Batches(extractor)
    work: dict[int, _Work] = {}
    next_out = 0
    try:
        while True:
            ready = batches.full()
            if ready is None:
                message = reading.message(wait=not batches.pending)
                if message is not None:
                    _take(message, work, batches)
                elif reading.finished and not batches.pending and not work:
                    return
                elif reading.finished or reading.at_limit:
                    # Nothing more comes before the oldest item is out: run what it waits for.
                    ready = batches.of_item(next_out)
                else:
                    reading.wait()
            if ready:
                for (number, unit), values in batches.run(ready):
                    item = work[number]
                    item.waiting -= 1
                    if not item.without_rows:
                        item.rows.append(_Row(unit.index, unit.start_s, unit.end_s, values))
            while next_out in work and work[next_out].done:
                yield _rows(work.pop(next_out), extractor)
                next_out += 1
                reading.item_is_out()
    finally:
        reading.stop()


def _take(message: _Message, work: dict[int, _Work], batches: _Batches) -> None:
    if message.error is not None:
        raise message.error
    item = work.setdefault(message.number, _Work(message.item_id))
    for unit in message.units:
        batches.add(message.number, unit)
    item.waiting += len(message.units)
    if message.read:
        item.read, item.without_rows, item.reason = True, message.without_rows, message.reason
        if item.without_rows:
            item.rows.clear()


def _rows(item: _Work, extractor: Extractor) -> Rows:
    rows = sorted(item.rows, key=lambda row: row.index)
    columns = {
        name: np.stack([row.values[name] for row in rows]) if rows else np.empty((0, width), dtype=np.float32)
        for name, width in extractor.bundle.widths.items()
    }
    return Rows(
        item.item_id,
        np.array([row.index for row in rows], dtype=np.int32),
        [row.start_s for row in rows],
        [row.end_s for row in rows],
        columns,
        item.reason,
    )


class _Readers:
    """Threads that turn items into units: decoding, tokenising, face finding. They wait while the queue is full."""

    def __init__(self, extractor: Extractor, items: Iterable[Item], count: int):
        self._extractor = extractor
        self._items = enumerate(items)
        self._lock = threading.Lock()
        self._queue: queue.Queue[_Message] = queue.Queue(QUEUE_MESSAGES)
        self._room = threading.Semaphore(extractor.lookahead)
        self._stopped = threading.Event()
        self._blocked = 0  # readers that wait for room
        self._threads = [threading.Thread(target=self._read, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def message(self, wait: bool) -> _Message | None:
        """The next message; None where there is none yet. With `wait`, only once the readers are finished or stuck."""
        while True:
            try:
                return self._queue.get(timeout=0.02) if wait else self._queue.get_nowait()
            except queue.Empty:
                if not wait or self.finished or self.at_limit:
                    return None

    def wait(self) -> None:
        """Let the readers work for a moment."""
        self._stopped.wait(0.002)

    @property
    def finished(self) -> bool:
        """Whether no message will come any more."""
        return not any(thread.is_alive() for thread in self._threads) and self._queue.empty()

    @property
    def at_limit(self) -> bool:
        """Whether the readers wait until items are out."""
        alive = sum(thread.is_alive() for thread in self._threads)
        return self._blocked >= alive and self._queue.empty()

    def item_is_out(self) -> None:
        """Make room for another item."""
        self._room.release()

    def stop(self) -> None:
        """End the threads."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        while not self._stopped.is_set():
            if not self._get_room():
                return
            number, item_id = -1, ""
            try:
                with self._lock:
                    number, item = next(self._items, (-1, None))
                if item is None:
                    return
                item_id = item.item_id
                self._read_item(number, item)
                item = None  # its sound is not held while the next one is read
            except _Stopped:
                return
            except BaseException as error:  # it is raised again in the main thread
                self._put_unless_stopped(_Message(number, item_id, error=error))
                return

    def _get_room(self) -> bool:
        if self._room.acquire(blocking=False):
            return True
        with self._lock:
            self._blocked += 1
        try:
            while not self._stopped.is_set():
                if self._room.acquire(timeout=0.05):
                    return True
            return False
        finally:
            with self._lock:
                self._blocked -= 1

    def _read_item(self, number: int, item: Item) -> None:
        units: list[Unit] = []
        reason, without_rows = None, False
        generator = self._extractor.units(item)
        try:
            while True:
                try:
                    units.append(next(generator))
                except StopIteration as end:
                    reason = end.value
                    break
                if len(units) >= MESSAGE_UNITS:
                    self._put(_Message(number, item.item_id, tuple(units)))
                    units = []
        except NoRows as error:
            reason, without_rows = str(error), True
        finally:
            generator.close()
        self._put(_Message(number, item.item_id, tuple(units), True, without_rows, reason))

    def _put(self, message: _Message) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(message, timeout=0.05)
                return
            except queue.Full:
                continue
        raise _Stopped

    def _put_unless_stopped(self, message: _Message) -> None:
        try:
            self._put(message)
        except _Stopped:
            return


class _Stopped(Exception):
    """The main thread wants no more."""


Waiting = tuple[int, Unit]


class _Batches:
    """Units that wait for their batch, by size."""

    def __init__(self, extractor: Extractor):
        self._extractor = extractor
        self._budget = extractor.batch_size
        self._by_size: dict[int, list[Waiting]] = {}
        self._filled: set[int] = set()  # sizes with a full batch

    @property
    def pending(self) -> bool:
        """Whether any unit waits."""
        return bool(self._by_size)

    def add(self, number: int, unit: Unit) -> None:
        """Let a unit of item `number` wait for its batch."""
        bucket = self._by_size.setdefault(unit.size, [])
        bucket.append((number, unit))
        if len(bucket) >= self._count(unit.size):
            self._filled.add(unit.size)

    def full(self) -> list[Waiting] | None:
        """A full batch, if there is one."""
        size = next(iter(self._filled), None)
        return None if size is None else self._next_of(size)

    def of_item(self, number: int) -> list[Waiting] | None:
        """A batch, full or not, with a unit of item `number`; else any."""
        for size, bucket in self._by_size.items():
            if any(owner == number for owner, _ in bucket):
                return self._next_of(size)
        return self._next_of(next(iter(self._by_size))) if self._by_size else None

    def run(self, batch: list[Waiting]) -> Iterator[tuple[Waiting, dict[str, np.ndarray]]]:
        """The values of each unit of a batch; where memory runs out, in halves, also from then on."""
        try:
            columns = self._extractor.run([unit for _, unit in batch])
        except Exception as error:
            if not compute.is_out_of_memory(error):
                raise
            if len(batch) == 1:
                raise UserError(
                    f"out of memory with a single unit of size {batch[0][1].size}: use a machine with more memory, "
                    "or write device: cpu in this modality's config"
                ) from error
            columns = None
        if columns is None:
            compute.free_unused_memory()
            half = len(batch) // 2
            self._budget = min(self._budget, half * batch[0][1].size)
            log(f"out of memory: going on with batches of {half} (of size {batch[0][1].size})")
            yield from self.run(batch[:half])
            yield from self.run(batch[half:])
            return
        for row, waiting in enumerate(batch):
            yield waiting, {name: values[row].copy() for name, values in columns.items()}

    def _count(self, size: int) -> int:
        return max(1, self._budget // size)

    def _next_of(self, size: int) -> list[Waiting]:
        bucket = self._by_size[size]
        count = self._count(size)
        batch, rest = bucket[:count], bucket[count:]
        if rest:
            self._by_size[size] = rest
        else:
            del self._by_size[size]
        if len(rest) < count:
            self._filled.discard(size)
        return batch
