"""Sound in blocks to windows of equal length: hours of it stream, and block boundaries change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from pipeline.features.extractor import NoRows
from pipeline.media.audio import AudioError, decode_flac_blocks

BLOCK_SAMPLES = 64 * 15_360  # about a minute: 4 MB of float32
# Three steps of 16 bits: what a recorder writes while it hears nothing.
SILENCE_PEAK = 3 / 32768


def windows(blocks: Iterable[np.ndarray], length: int, hop: int) -> Iterator[np.ndarray]:
    """Windows of `length` samples, `hop` apart, of a signal that comes in blocks; then what is left behind the last.

    Yields:
        float32 (length,) for each whole window; at the end the samples from where the next window would begin, of
        any length below `length` (also 0).
    """
    rest = np.empty(0, dtype=np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block]) if len(rest) else block
        start = 0
        while start + length <= len(rest):
            yield rest[start : start + length]
            start += hop
        rest = rest[start:].copy()  # a copy lets go of the block
    yield rest


class Sound:
    """A recording's windows, and whether any sound was heard in it."""

    def __init__(self, flac: bytes):
        self._flac = flac
        self._heard = False
        self._samples = 0

    def windows(self, length: int, hop: int) -> Iterator[np.ndarray]:
        """As `windows`. Raises NoRows, after the last window, for silence; and for bytes that are no FLAC."""
        try:
            yield from windows(self._blocks(), length, hop)
        except AudioError as error:
            raise NoRows(str(error)) from None
        if not self._heard:
            raise NoRows("silent" if self._samples else "no sound: the recording is empty")

    def _blocks(self) -> Iterator[np.ndarray]:
        for block in decode_flac_blocks(self._flac, BLOCK_SAMPLES):
            self._samples += len(block)
            self._heard = self._heard or bool(len(block) and np.abs(block).max() > SILENCE_PEAK)
            yield block
