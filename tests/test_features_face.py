"""Faces: real clips in, rows out; clips without a face, half black, without pictures."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import UserError
from pipeline.features import bundle, engine
from pipeline.features.extractor import Item, NoRows
from pipeline.features.face import untrained_resnet_50, with_margin
from pipeline.media.ffmpeg import executable

CLIP = "grid_bbaf2n.mpg"  # one speaker, 3 s


def ffmpeg(*arguments: str | Path) -> None:
    command = [executable(), "-y", "-loglevel", "error", "-nostdin", *map(str, arguments)]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def extractor():
    return load()


def load(**settings):
    defaults = {"extractor": "face", "model": "untrained-resnet-50", "precision": "float32", "device": "cpu"}
    return bundle.load("visual", {**defaults, **settings})


def extract(extractor, *items: Item) -> list[engine.Rows]:
    return list(engine.extract(extractor, items))


@pytest.fixture(scope="module")
def clip(shared):
    return str(shared / "media" / CLIP)


def test_a_clip_of_a_face_gives_a_row_for_every_sampled_frame(extractor, clip):
    (rows,) = extract(extractor, Item("x", video=clip))
    assert rows.columns["embedding"].shape == (6, 2048)  # 3 s at 2 Hz
    assert rows.index.tolist() == list(range(6))
    assert rows.start_s == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert rows.end_s == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert rows.reason is None


def test_rows_equal_a_plain_loop_one_face_at_a_time_whatever_the_batch(extractor, clip, shared):
    items = [
        Item("a", video=clip),
        Item("b", video=str(shared / "media" / "grid_brbk7n.mpg"), start_s=0.4, end_s=2.1),
        Item("c", video=clip, start_s=1.0, end_s=2.0),
    ]
    together = extract(extractor, *items)
    network = untrained_resnet_50(seed=0).eval()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for item, rows in zip(items, together, strict=True):
        (alone,) = extract(extractor, item)
        np.testing.assert_array_equal(alone.columns["embedding"], rows.columns["embedding"])
        for unit, row in zip(extractor.units(item), rows.columns["embedding"], strict=True):
            pixels = (torch.from_numpy(unit.data) / 255.0 - mean) / std
            with torch.inference_mode():
                expected = network(pixels.permute(2, 0, 1).unsqueeze(0)).pooler_output.flatten().numpy()
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-4)


def test_bfloat16_stays_near_float32(extractor, clip):
    (exact,), (rounded,) = (extract(each, Item("x", video=clip)) for each in (extractor, load(precision="bfloat16")))
    one, other = (torch.from_numpy(rows.columns["embedding"]) for rows in (exact, rounded))
    assert torch.nn.functional.cosine_similarity(one, other).min() >= 0.999


@pytest.fixture(scope="module")
def half_black(clip, tmp_path_factory):
    """The face in the right half of a picture whose left half is black."""
    path = tmp_path_factory.mktemp("video") / "half.mp4"
    ffmpeg("-i", clip, "-t", "2", "-vf", "pad=2*iw:ih:iw:0:black", "-an", path)
    return str(path)


def test_a_half_black_clip_has_rows_for_the_side_with_the_face_only(extractor, half_black):
    left, right, whole = extract(
        extractor, *(Item(str(side), video=half_black, side=side) for side in ("left", "right", None))
    )
    assert (len(left.index), left.reason) == (0, "no face in any of 4 frames")
    assert (len(right.index), right.reason) == (4, None)
    assert (len(whole.index), whole.reason) == (4, None)


def test_frames_without_a_face_are_counted_and_left_out(extractor, clip, tmp_path):
    path = tmp_path / "gone.mp4"
    ffmpeg("-i", clip, "-t", "2", "-vf", "drawbox=t=fill:color=black:enable='between(t,0.9,1.6)'", "-an", path)
    (rows,) = extract(extractor, Item("x", video=str(path)))
    assert rows.index.tolist() == [0, 1]
    assert rows.start_s == [0.0, 0.5]
    assert rows.reason == "no face in 2 of 4 frames"


def test_a_clip_with_no_face_has_no_rows_but_a_reason(extractor, tmp_path):
    path = tmp_path / "bars.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc=size=320x240:rate=10:duration=1", path)
    (rows,) = extract(extractor, Item("x", video=str(path)))
    assert (len(rows.index), rows.reason) == (0, "no face in any of 2 frames")
    assert rows.columns["embedding"].shape == (0, 2048)


def test_a_broken_video_stream_has_no_rows_but_a_reason(extractor, clip, tmp_path):
    noise = tmp_path / "noise.mpg"
    noise.write_bytes(os.urandom(20_000))
    sound = tmp_path / "sound.wav"
    ffmpeg("-i", clip, "-vn", sound)
    broken, no_pictures, missing = extract(
        extractor, *(Item(path.stem, video=str(path)) for path in (noise, sound, tmp_path / "none.mpg"))
    )
    assert all(len(rows.index) == 0 for rows in (broken, no_pictures, missing))
    assert "noise.mpg" in broken.reason
    assert no_pictures.reason.endswith("no video stream")
    assert "no such file" in missing.reason


def test_one_broken_clip_leaves_the_others_alone(extractor, clip, tmp_path):
    (tmp_path / "noise.mpg").write_bytes(b"\0" * 5000)
    bad, good = extract(extractor, Item("a", video=str(tmp_path / "noise.mpg")), Item("b", video=clip, end_s=1.0))
    assert (len(bad.index), len(good.index)) == (0, 2)


@pytest.mark.parametrize("pictures_first", [False, True])
def test_ffmpeg_killed_ends_the_job_and_leaves_no_row_or_reason(extractor, clip, tmp_path, monkeypatch, pictures_first):
    script = tmp_path / "ffmpeg"
    script.write_text(f'#!/bin/sh\n{executable() if pictures_first else ":"} "$@"\nkill -KILL $$\n')
    script.chmod(0o755)
    monkeypatch.setattr("pipeline.media.ffmpeg.executable", lambda: str(script))
    with pytest.raises(UserError, match=rf"{CLIP}: ffmpeg was ended by SIGKILL"):
        extract(extractor, Item("x", video=clip))


def test_the_margin_stays_inside_the_picture():
    assert with_margin((10, 20, 100, 100), 0.2, 300, 200) == (0, 0, 130, 140)
    assert with_margin((190, 90, 100, 100), 0.5, 300, 200) == (140, 40, 300, 200)


def test_the_largest_face_is_taken(extractor, clip, tmp_path):
    """The same speaker twice, on the right at full size, on the left at half of it."""
    path = tmp_path / "two.mp4"
    half = "[0:v]split[a][b];[a]scale=iw/2:ih/2,pad=iw*2:ih*2[s];[s][b]hstack"
    ffmpeg("-i", clip, "-t", "1", "-filter_complex", half, "-an", path)
    both = extractor.units(Item("x", video=str(path)))
    right = extractor.units(Item("y", video=str(path), side="right"))
    for one, other in zip(both, right, strict=True):
        assert np.abs(one.data.astype(int) - other.data).mean() < 8


def test_the_bundle_calls_untrained_weights_untrained(extractor):
    assert extractor.bundle.untrained
    assert extractor.bundle.weights == "untrained-resnet-50"
    assert not torch.equal(*(next(untrained_resnet_50(seed).parameters()) for seed in (0, 1)))


def test_another_backbone_stands_in_by_config_alone(clip, tmp_path):
    import transformers

    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=64
    )
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}')
    vit = load(model=str(tmp_path))
    assert vit.image_size == 64
    (rows,) = extract(vit, Item("x", video=clip, end_s=1.0))
    assert rows.columns["embedding"].shape == (2, 32)


def test_a_setting_that_makes_no_sense_is_an_error():
    with pytest.raises(UserError, match="rate_hz is 0"):
        bundle.check("visual", {"extractor": "face", "rate_hz": 0})


def test_no_rows_is_what_a_reader_is_told(extractor):
    with pytest.raises(NoRows, match="no such file"):
        list(extractor.units(Item("x", video="/nowhere/clip.avi")))
