"""Any media file in, FLAC bytes (16 kHz, mono) out; and back to samples for the acoustic features.

The same file gives the same bytes each time: no dates, no encoder versions, no tags.
"""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ffmpeg
import numpy as np
import soundfile

from pipeline.media.ffmpeg import MediaError, command, local_input, reason

SAMPLE_RATE_HZ = 16_000
LONGEST_FLAC_SAMPLES = 2**36  # what its header can tell; libsndfile reports more where it tells nothing


class AudioError(MediaError):
    """A file without usable sound: no audio stream, an empty cut, or one that cannot be decoded."""


@dataclass(frozen=True)
class Audio:
    """FLAC bytes, 16 kHz, mono, 16 bits a sample."""

    flac: bytes
    duration_s: float


def to_flac(path: str | os.PathLike, start_s: float | None = None, end_s: float | None = None) -> Audio:
    """The sound of [start_s, end_s) of a local file (None: its own start or end), of its first audio stream.

    Raises:
        AudioError: the file is missing, broken or has no sound there; its text is the reason, ffmpeg's last words.
        UserError: ffmpeg was kept from its work, which says nothing of the file.
    """
    try:
        sound = local_input(path, start_s, end_s)["a:0"]
    except MediaError as error:
        raise AudioError(str(error)) from error
    # Through a file, not a pipe: FLAC's header holds the length and checksum, which the encoder goes back to write.
    with tempfile.TemporaryDirectory(prefix="audio-") as folder:
        target = Path(folder, "audio.flac")
        output = ffmpeg.output(
            sound,
            str(target),
            format="flac",
            acodec="flac",
            ar=SAMPLE_RATE_HZ,
            ac=1,
            sample_fmt="s16",
            map_metadata=-1,
            metadata_header_padding=0,  # else 8 KiB of zeros in each file, as much as an utterance's sound
            fflags="+bitexact",
            flags="+bitexact",
        )
        done = subprocess.run(
            command(output), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        if done.returncode != 0:
            raise AudioError(reason(done.stderr, done.returncode, "audio", str(path)))
        flac = target.read_bytes()
    duration_s = duration_of(flac)
    if duration_s == 0:
        raise AudioError(f"no sound from {start_s or 0:g} s to {'its end' if end_s is None else f'{end_s:g} s'}")
    return Audio(flac, duration_s)


def duration_of(flac: bytes) -> float:
    """Seconds of sound in FLAC bytes, from their header; 0 where it tells no length, as it does when there is none."""
    with _open(flac) as sound:
        return sound.frames / SAMPLE_RATE_HZ if sound.frames < LONGEST_FLAC_SAMPLES else 0.0


def decode_flac(flac: bytes) -> np.ndarray:
    """The samples of FLAC bytes: float32 (samples,), -1..1, 16 kHz mono.

    Raises:
        AudioError: the bytes are not FLAC, or not 16 kHz mono.
    """
    with _open(flac) as sound:
        return sound.read(dtype="float32")


def decode_flac_blocks(flac: bytes, block_samples: int) -> Iterator[np.ndarray]:
    """As decode_flac, in blocks of block_samples (the last may be shorter), so that hours of sound fit in memory."""
    with _open(flac) as sound:
        yield from sound.blocks(blocksize=block_samples, dtype="float32")


def _open(flac: bytes) -> soundfile.SoundFile:
    try:
        sound = soundfile.SoundFile(io.BytesIO(flac))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"not FLAC: {error.error_string}") from error  # its str() holds a memory address
    if (sound.samplerate, sound.channels) != (SAMPLE_RATE_HZ, 1):
        raise AudioError(f"{sound.samplerate} Hz with {sound.channels} channels, where 16000 Hz mono is expected")
    return sound
