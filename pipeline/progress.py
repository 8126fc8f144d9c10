"""Progress of long jobs: a bar on a terminal, a plain line every few seconds where the output is a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

LOG_INTERVAL_S = 10.0


def log(message: str) -> None:
    """Print a line for the user; standard error, so that a rule's log file holds it."""
    print(message, file=sys.stderr, flush=True)


def progress(items: Iterable[T], total: int | None = None, what: str = "items") -> Iterator[T]:
    """Yield from `items` and show how far the job is.

    `total` is the number of items where it is known (`len(items)` otherwise). On a terminal this is a bar; in a log it
    is a line such as ``utterances: 120 of 480, 31.0/s, 12 s left`` at most every ten seconds, and one at the end.
    """
    if total is None and hasattr(items, "__len__"):
        total = len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, unit=what, file=sys.stderr)
        return
    started = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= LOG_INTERVAL_S:
            last = now
            log(_line(what, done, total, now - started))
    if done:
        log(_line(what, done, total, time.monotonic() - started))


def _line(what: str, done: int, total: int | None, elapsed_s: float) -> str:
    rate = done / max(elapsed_s, 1e-9)
    if total is None:
        return f"{what}: {done}, {rate:.1f}/s"
    if done >= total:
        return f"{what}: {done} of {total}, {rate:.1f}/s, done in {elapsed_s:.1f} s"
    return f"{what}: {done} of {total}, {rate:.1f}/s, {(total - done) / rate:.0f} s left"
