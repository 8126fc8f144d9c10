"""Any media file in, 16 kHz mono FLAC out, and back to samples."""

import subprocess

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.media import audio
from pipeline.media.audio import AudioError, decode_flac, decode_flac_blocks, to_flac
from pipeline.media.ffmpeg import executable
from tests.demo_site import DEMO

UTTERANCE = DEMO / "iemocap/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
FILM = DEMO / "iemocap/Session1/dialog/avi/DivX/Ses01F_impro01.avi"


@pytest.fixture
def tone(tmp_path):
    """Three seconds: a tone that is twice as loud in each next second; 44.1 kHz, stereo."""
    rate = 44_100
    time_s = np.arange(3 * rate) / rate
    sound = 0.1 * 2 ** np.floor(time_s) * np.sin(2 * np.pi * 440 * time_s)
    soundfile.write(tmp_path / "tone.wav", np.stack([sound, sound], axis=1), rate)
    return tmp_path / "tone.wav"


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples))))


@pytest.mark.parametrize(
    "source", [UTTERANCE, FILM, *sorted((DEMO / "ted/site").iterdir())[:1]], ids=lambda p: p.suffix
)
def test_whatever_the_container_it_becomes_16_khz_mono_flac(source):
    made = to_flac(source, 0, 1.5)
    assert made.flac[:4] == b"fLaC"
    assert made.duration_s == pytest.approx(1.5, abs=0.05)
    assert decode_flac(made.flac).shape == (round(made.duration_s * 16_000),)


def test_the_same_file_gives_the_same_bytes_without_dates_or_versions():
    first, second = to_flac(UTTERANCE), to_flac(UTTERANCE)
    assert first == second
    assert b"Lavf" not in first.flac[:4096]


def test_a_cut_takes_its_own_part(tone):
    for second, loudness in enumerate((0.1, 0.2, 0.4)):
        cut = to_flac(tone, second + 0.1, second + 0.9)
        assert cut.duration_s == pytest.approx(0.8, abs=0.001)
        assert rms(decode_flac(cut.flac)) == pytest.approx(loudness / np.sqrt(2), rel=0.03)


def test_a_cut_without_an_end_runs_to_the_end(tone):
    assert to_flac(tone, 2.0).duration_s == pytest.approx(1.0, abs=0.001)
    assert to_flac(tone).duration_s == pytest.approx(3.0, abs=0.001)


@settings(deadline=None, max_examples=12)
@given(st.integers(1, 60_000), st.integers(500, 20_000))
def test_blocks_are_the_whole_cut_in_pieces(samples, block):
    import io

    sound = np.random.default_rng(samples).uniform(-1, 1, samples).astype(np.float32)
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, 16_000, format="FLAC")
    blocks = list(decode_flac_blocks(buffer.getvalue(), block))
    assert [len(piece) for piece in blocks[:-1]] == [block] * (len(blocks) - 1)
    np.testing.assert_array_equal(np.concatenate(blocks), decode_flac(buffer.getvalue()))


def broken(folder, kind):
    path = folder / f"{kind}.wav"
    if kind == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "header":
        path.write_bytes(UTTERANCE.read_bytes()[:30])
    elif kind == "silent film":
        picture = ("-f", "lavfi", "-i", "color=c=red:s=32x32:r=5:d=1", "-c:v", "mpeg4", str(folder / "film.avi"))
        subprocess.run([executable(), "-loglevel", "error", *picture], check=True)
        return folder / "film.avi"
    return path


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("noise", "Invalid data found"),
        ("empty", "Invalid data found"),
        ("header", "Invalid data found"),
        ("missing", "no such file"),
        ("silent film", "no audio stream"),
    ],
)
def test_a_file_without_sound_says_why(tmp_path, kind, reason):
    with pytest.raises(AudioError, match=reason) as error:
        to_flac(broken(tmp_path, kind))
    assert "0x" not in str(error.value)  # the same reason in each run


@pytest.mark.parametrize(("start_s", "end_s"), [(5.0, 6.0), (2.0, 2.0), (2.0, 1.0)])
def test_a_cut_without_sound_says_so(tone, start_s, end_s):
    with pytest.raises(AudioError, match=r"no sound|empty cut"):
        to_flac(tone, start_s, end_s)


def test_a_playlist_in_disguise_opens_no_connection(tmp_path):
    path = tmp_path / "sound.wav"
    path.write_text("#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/secret.mp3\n#EXT-X-ENDLIST\n")
    with pytest.raises(AudioError):
        to_flac(path)


def test_what_is_not_16_khz_mono_flac_is_refused(tmp_path, tone):
    with pytest.raises(AudioError, match="not FLAC"):
        decode_flac(b"nothing")
    with pytest.raises(AudioError, match="44100 Hz with 2 channels"):
        decode_flac(tone.read_bytes())


def test_ffmpeg_is_found_without_one_on_the_path(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    executable.cache_clear()
    try:
        assert "ffmpeg" in executable()
    finally:
        executable.cache_clear()


def test_real_recordings_keep_their_length(shared):
    for path in sorted((shared / "media").glob("*.wav")):
        assert to_flac(path).duration_s == pytest.approx(soundfile.info(str(path)).duration, abs=0.002)
    assert audio.SAMPLE_RATE_HZ == 16_000
