"""Pictures from a clip: how many, when, which half; and clips that have none."""

import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.media.ffmpeg import executable
from pipeline.media.video import VideoError, frames
from tests.demo_site import DEMO

FILM = DEMO / "iemocap/Session1/dialog/avi/DivX/Ses01F_impro01.avi"


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """Four seconds at 10 pictures a second: grey 40, 80, 120, 160 by second; the right half is white; no loss."""
    path = tmp_path_factory.mktemp("clip") / "steps.mkv"
    clip = np.full((40, 32, 48), 255, dtype=np.uint8)
    for number in range(40):
        clip[number, :, :24] = 40 * (1 + number // 10)
    raw = ("-f", "rawvideo", "-pix_fmt", "gray", "-s", "48x32", "-r", "10", "-i", "-")
    subprocess.run(
        [executable(), "-loglevel", "error", *raw, "-c:v", "ffv1", "-pix_fmt", "gray", str(path)],
        input=clip.tobytes(),
        check=True,
    )
    return path


def left_greys(pictures):
    return [int(picture[:, :24].mean().round()) for _, picture in pictures]


def test_pictures_come_at_the_chosen_rate_with_their_times(steps):
    pictures = list(frames(steps, 2))
    assert [time_s for time_s, _ in pictures] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]
    assert left_greys(pictures) == [40, 40, 80, 80, 120, 120, 160, 160]
    assert all(p.shape == (32, 48, 3) and p.dtype == np.uint8 and p.flags.writeable for _, p in pictures)


def test_a_cut_has_the_pictures_of_its_time_and_not_the_one_at_its_end(steps):
    pictures = list(frames(steps, 2, 1.0, 3.0))
    assert [time_s for time_s, _ in pictures] == [1.0, 1.5, 2.0, 2.5]
    assert left_greys(pictures) == [80, 80, 120, 120]


def test_an_end_behind_the_clip_is_the_clips_end(steps):
    assert len(list(frames(steps, 2, 3.0, 99.0))) == 2


def test_a_cut_shorter_than_the_interval_has_one_picture(steps):
    assert len(list(frames(steps, 1, 1.2, 1.4))) == 1


def test_a_rate_above_the_clips_own_repeats_pictures(steps):
    assert len(list(frames(steps, 25))) == 100


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 20), st.integers(0, 30), st.integers(1, 9))
def test_the_count_is_the_length_times_the_rate_rounded_up(steps, rate_hz, start_tenths, length_tenths):
    start_s, end_s = start_tenths / 10, (start_tenths + length_tenths) / 10
    pictures = list(frames(steps, rate_hz, start_s, end_s))
    assert len(pictures) == -(-length_tenths * rate_hz // 10)
    assert all(start_s <= time_s < end_s for time_s, _ in pictures)


def test_a_side_is_one_half_of_the_picture(steps):
    (_, left), *_ = frames(steps, 1, side="left")
    (_, right), *_ = frames(steps, 1, side="right")
    assert left.shape == right.shape == (32, 24, 3)
    assert left.max() == 40
    assert right.min() == 255


def test_high_pictures_are_made_smaller_and_low_ones_left_alone(steps):
    assert next(frames(steps, 1, max_height=16))[1].shape == (16, 24, 3)
    assert next(frames(steps, 1, max_height=500))[1].shape == (32, 48, 3)


def test_colours_are_in_the_order_red_green_blue(tmp_path):
    red = ("-f", "lavfi", "-i", "color=c=red:s=32x32:r=5:d=1", "-c:v", "ffv1", str(tmp_path / "red.mkv"))
    subprocess.run([executable(), "-loglevel", "error", *red], check=True)
    _, picture = next(frames(tmp_path / "red.mkv", 1))
    assert picture[..., 0].min() > 240
    assert picture[..., 1:].max() < 15


def test_whoever_has_had_enough_may_stop(steps):
    pictures = frames(FILM, 6)
    next(pictures)
    pictures.close()  # ends ffmpeg, which would else wait for a reader for ever


def test_a_broken_stream_says_why(tmp_path):
    whole = FILM.read_bytes()
    noise = np.random.default_rng(0).bytes(len(whole) - 6000)
    for name, content in {"noise": whole[:6000] + noise, "header": whole[:3000], "empty": b""}.items():
        path = tmp_path / f"{name}.avi"
        path.write_bytes(content)
        with pytest.raises(VideoError) as error:
            list(frames(path, 2))
        assert str(path) in str(error.value)
        assert "0x" not in str(error.value)


def test_a_clip_that_is_cut_off_gives_what_it_has(tmp_path):
    whole = FILM.read_bytes()
    (tmp_path / "half.avi").write_bytes(whole[: len(whole) // 2])
    assert 20 < len(list(frames(tmp_path / "half.avi", 1))) < len(list(frames(FILM, 1)))


@pytest.mark.parametrize(("start_s", "end_s"), [(4.5, 5.0), (2.0, 2.0), (3.0, 1.0)])
def test_a_cut_without_pictures_says_so(steps, start_s, end_s):
    with pytest.raises(VideoError, match=r"no picture|empty cut"):
        list(frames(steps, 2, start_s, end_s))


def test_sound_alone_and_a_missing_file_have_no_pictures(tmp_path):
    sound = DEMO / "iemocap/Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"
    with pytest.raises(VideoError, match="no video stream"):
        list(frames(sound, 1))
    with pytest.raises(VideoError, match="no such file"):
        list(frames(tmp_path / "missing.avi", 1))


def test_a_wrong_rate_or_side_is_the_programs_fault():
    with pytest.raises(ValueError, match="rate_hz"):
        next(frames(FILM, 0))
    with pytest.raises(ValueError, match="side"):
        next(frames(FILM, 1, side="middle"))


def test_real_clips_have_a_picture_for_each_sampled_moment(shared):
    for path in sorted((shared / "media").glob("*.mpg")):  # 2.98 s at 25 pictures a second
        assert len(list(frames(path, 5))) == 15
        pictures = [picture for _, picture in frames(path, 25, side="left")]
        assert len(pictures) == 75
        assert {picture.shape for picture in pictures} == {(288, 180, 3)}
