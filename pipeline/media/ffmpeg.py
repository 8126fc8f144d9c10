"""Where ffmpeg is and how it is called; audio.py and video.py go through here.

The system's ffmpeg is taken where there is one on the PATH, else the one that the package imageio-ffmpeg ships.
Neither promises an ffprobe, so what must be known of a file is learned from ffmpeg's own output.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import ffmpeg

from pipeline.errors import UserError

# "[flac @ 0x55d0c8a3f740] ": the address differs from run to run, and a reason must not.
_CONTEXT = re.compile(r"^(\[[^\]]*@ 0x[0-9a-f]+\]\s*)+", re.IGNORECASE)
_NO_ROOM = ("No space left on device", "Disk quota exceeded", "File too large", "pthread_create() failed")
# A crash (SIGSEGV and the like) is not among them: a damaged file can bring it about, again and again.
_ENDED_BY_OTHERS = (signal.SIGHUP, signal.SIGKILL, signal.SIGXFSZ)
_ENDED_AND_TIDY = 255  # SIGINT, SIGTERM and SIGXCPU, which it answers by closing its files


class MediaError(Exception):
    """A media file that cannot be used. Its text is the reason that is recorded for the item."""


@functools.cache
def executable() -> str:
    """The path of the ffmpeg program.

    Raises:
        UserError: there is none.
    """
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"ffmpeg was not found: it is not on the PATH, and imageio-ffmpeg has none ({error}). "
            "Install it with the system's packages, or with: pip install imageio-ffmpeg"
        ) from error


def local_input(path: str | os.PathLike, start_s: float | None = None, end_s: float | None = None) -> Any:
    """An ffmpeg-python input node for [start_s, end_s) of a local file; None stands for its own start or end.

    The file can pull in nothing else: a playlist that hides behind the name of a sound file opens no connection.

    Raises:
        MediaError: there is no such file, or the cut is empty.
    """
    path = Path(path)
    if not path.is_file():
        raise MediaError("no such file")
    options: dict[str, Any] = {"protocol_whitelist": "file"}
    start = start_s or 0.0
    if start > 0:
        options["ss"] = f"{start:.6f}"
    if end_s is not None:
        if end_s <= start:
            raise MediaError(f"an empty cut: it ends at {end_s} s and starts at {start} s")
        options["t"] = f"{end_s - start:.6f}"
    return ffmpeg.input(f"file:{path}", **options)


def command(output: Any) -> list[str]:
    """The command line of an ffmpeg-python output node: quiet but for errors, and never waiting at a prompt."""
    return ffmpeg.compile(
        output.global_args("-hide_banner", "-nostdin", "-loglevel", "error"), cmd=executable(), overwrite_output=True
    )


def reason(errors: bytes, status: int, stream: str, what: str) -> str:
    """Why ffmpeg gave up on `what`: its last line without memory addresses, or that it has no `stream` ("audio").

    Raises:
        UserError: not the file was at fault but the machine: no room to work in, or somebody ended ffmpeg.
    """
    said = errors.decode("utf-8", "replace")
    if -status in _ENDED_BY_OTHERS or status == _ENDED_AND_TIDY:
        by = signal.Signals(-status).name if status < 0 else "a signal"
        raise UserError(f"{what}: ffmpeg was ended by {by}. Run it again; with more memory, if that was wanting")
    if no_room := next((text for text in _NO_ROOM if text in said), None):
        raise UserError(
            f"{what}: ffmpeg has no room ({no_room}). Make some, also in {tempfile.gettempdir()}; run it again"
        )
    lines = [_CONTEXT.sub("", line).strip() for line in said.splitlines()]
    if any("matches no streams" in line for line in lines):
        return f"no {stream} stream"
    return next((line for line in reversed(lines) if line), f"ffmpeg ended with status {status}")
