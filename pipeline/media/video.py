"""A clip in, its pictures out: RGB frames at a chosen rate, straight from ffmpeg's pipe, one in memory at a time.

Read by the visual features. IEMOCAP films both actors side by side: `side` takes one half of the picture.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from typing import BinaryIO, Literal

import ffmpeg
import numpy as np

from pipeline.media.ffmpeg import MediaError, command, local_input, reason

Side = Literal["left", "right"]


class VideoError(MediaError):
    """A clip without pictures: none in the cut, no video stream, or one that cannot be decoded."""


def frames(
    path: str | os.PathLike,
    rate_hz: float,
    start_s: float | None = None,
    end_s: float | None = None,
    side: Side | None = None,
    max_height: int | None = None,
) -> Iterator[tuple[float, np.ndarray]]:
    """The pictures on display at start_s, start_s + 1/rate_hz, ... before end_s (None: the whole clip).

    Args:
        path: a local file of any format that ffmpeg reads.
        rate_hz: pictures a second; a clip's own rate does not matter (pictures are left out or repeated).
        start_s, end_s: seconds from the clip's start; the end is not included, and may lie behind the clip's.
        side: "left" or "right" half of the picture; None for all of it.
        max_height: pictures that are higher are made smaller, with their proportions.

    Yields:
        (time_s, picture): seconds from the clip's start, and uint8 (height, width, 3), red first; yours to write in.

    Raises:
        VideoError: before the first picture if there is none, and after the last good one if decoding breaks off;
            its text is the reason. Single damaged pictures inside a clip are ffmpeg's to conceal.
        UserError: ffmpeg was kept from its work, which says nothing of the clip.
        ValueError: a rate that is not positive, or another side.
    """
    if rate_hz <= 0:
        raise ValueError(f"rate_hz is {rate_hz}: it must be positive")
    if side not in (None, "left", "right"):
        raise ValueError(f"side is {side!r}: it is 'left', 'right' or None")
    try:
        pictures = local_input(path, start_s, end_s)["v:0"]
    except MediaError as error:
        raise VideoError(f"{path}: {error}") from error
    # round="up" makes picture n the one on display at n / rate_hz; "near" would take a later one half of the time.
    pictures = pictures.filter("fps", fps=rate_hz, round="up", start_time=0)
    if side:
        pictures = pictures.filter(
            "crop", w="floor(iw/2)", h="ih", x="0" if side == "left" else "iw-floor(iw/2)", y="0"
        )
    if max_height:
        pictures = pictures.filter("scale", w="-2", h=f"min(ih,{int(max_height)})")
    output = ffmpeg.output(pictures, "pipe:", format="image2pipe", vcodec="ppm", pix_fmt="rgb24")
    yield from _read(command(output), start_s or 0.0, rate_hz, f"{path}{_cut(start_s, end_s)}")


def _read(arguments: list[str], start_s: float, rate_hz: float, what: str) -> Iterator[tuple[float, np.ndarray]]:
    count = 0
    # Errors go to a file: a pipe that nobody reads would stop ffmpeg once it is full.
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors)
        try:
            while (picture := _read_ppm(process.stdout)) is not None:
                yield start_s + count / rate_hz, picture
                count += 1
            status = process.wait()
        finally:
            process.kill()  # the reader may have had enough before the end; no effect once it has exited
            process.stdout.close()
            process.wait()
        errors.seek(0)
        said = errors.read()
    if status != 0:
        at = f" (after {count} pictures)" if count else ""
        raise VideoError(f"{what}: {reason(said, status, 'video', what)}{at}")
    if count == 0:
        raise VideoError(f"{what}: no picture")


def _read_ppm(stream: BinaryIO) -> np.ndarray | None:
    """The next picture of a row of binary PPMs, uint8 (height, width, 3); None at the end or if it is cut short."""
    header = [stream.readline() for _ in range(3)]  # b"P6\n", b"640 480\n", b"255\n" as ffmpeg writes it
    if header[0] != b"P6\n" or header[2] != b"255\n":
        return None
    width, height = (int(number) for number in header[1].split())
    picture = np.empty((height, width, 3), dtype=np.uint8)
    return picture if stream.readinto(picture.data.cast("B")) == picture.nbytes else None


def _cut(start_s: float | None, end_s: float | None) -> str:
    if start_s is None and end_s is None:
        return ""
    return f" from {start_s or 0:g} s to {'the end' if end_s is None else f'{end_s:g} s'}"
