"""Scores new items with a trained student: texts or recordings in, probabilities of the classes, or a value, out.

Reads a student's checkpoint, and the dataset and the splits that it was trained on; `model.__main__` prints the scores.
A new item goes the way of every item before it: the same extractor, the same pooling, and for each run the statistics
of that run's training items.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from model import checkpoint
from model.data import CLASSIFICATION, read_corpus, read_splits
from model.train import Task
from pipeline import store
from pipeline.errors import UserError
from pipeline.features import bundle

# What tells an extractor from another; device and precision may be this machine's own.
SAME_EXTRACTOR = ("name", "weights", "revision", "untrained", "preprocessing", "widths")


@dataclass(frozen=True)
class Student:
    """A trained variant: its networks (runs, ...), its modality, and the stage and the task that it was trained in."""

    modality: str
    stage: str
    task: Task
    encoder: Mapping[str, Tensor]
    head: Mapping[str, Tensor]


def read_student(path: str | Path, variant: str, dataset_path: str | Path, splits_path: str | Path) -> Student:
    """A variant's student from a checkpoint of stage 4 (or 3).

    Raises UserError for a variant that the checkpoint lacks, and for a dataset or splits other than the student's own.
    """
    tensors, made_by = checkpoint.read(path)
    student, head = ({name.split("/")[0] for name in tensors if f"/{part}." in name} for part in ("student", "head"))
    known = sorted(student & head)
    if not known:
        raise UserError(f"{path} holds no student that can answer: name a checkpoint stage4_MODALITY.safetensors")
    if variant not in known:
        raise UserError(f"{path} holds no variant {variant!r}; write one of: {', '.join(known)}")
    modality = next(name.split("/")[0] for name in made_by["metrics"] if name.endswith(f"/{variant}"))
    for own in (dataset_path, splits_path):
        if not Path(own).is_file():
            raise UserError(f"{own} does not exist: name the file that {path} was trained on")
        if store.sha256_of(own) not in made_by["inputs"].values():
            raise UserError(f"{own} is not the file that {path} was trained on: name that one, or train again")
    corpus = read_corpus(dataset_path, made_by["corpus"])
    task = Task(
        corpus,
        read_splits(splits_path, made_by["protocol"], corpus.item_ids),
        made_by["settings"]["stages"],
        made_by["settings"]["seed"],
        torch.device("cpu"),
    )
    networks = (checkpoint.network(tensors, variant, part) for part in ("student", "head"))
    return Student(modality, f"{made_by['step']}.{modality}", task, *networks)


@torch.no_grad()
def scores(student: Student, vectors: np.ndarray) -> Tensor:
    """What every run says of new items, features (items, width) as in the dataset.

    Probabilities (runs, items, classes), or for a regression values in the target's own unit, (runs, items, 1).
    """
    corpus, own = student.task.corpus, (student.modality,)
    known, count = len(corpus.item_ids), len(vectors)
    # The new items are the test items of every run, which no statistic of a run looks at.
    extended = replace(
        corpus,
        item_ids=corpus.item_ids + [""] * count,
        groups=np.concatenate([corpus.groups, np.full(count, "")]),
        target=torch.cat([corpus.target, corpus.target.new_zeros(count)]),
        features={student.modality: torch.cat([corpus.features[student.modality], torch.from_numpy(vectors)])},
    )
    test = np.arange(known, known + count)
    task = replace(student.task, corpus=extended, splits=[replace(split, test=test) for split in student.task.splits])
    parts = []
    for block in task.blocks(own, student.stage):
        batch, _ = block.stack.part("test")
        answer = block.head(student.head)(block.encoder(own, student.encoder)(batch.features(own)))
        is_class = corpus.task == CLASSIFICATION
        parts.append(answer.softmax(-1) if is_class else block.stack.decide(answer).unsqueeze(-1))
    return torch.cat(parts)


def predict(
    student: Student,
    dataset_path: str | Path,
    *,
    texts: Sequence[str] = (),
    text_files: Sequence[str] = (),
    audio: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    weights_path: str | Path | None = None,
) -> list[dict[str, Any]]:
    """For each new item its label and the probability of each class, or its value: the mean over the runs.

    `settings` and `weights_path` tell the extractor where the dataset's feature files and weights are gone. Raises
    UserError for an item that the student cannot take or that has no features.
    """
    takes = {"lexical": "text", "acoustic": "sound"}[student.modality]
    given = "sound" if audio else "text"
    if takes != given:
        option = "--audio FILE" if takes == "sound" else "--text or --text-file"
        raise UserError(f"this is the {student.modality} student: it takes {takes}, not {given}; write {option}")
    names = [*texts, *text_files, *audio]
    for path in (*text_files, *audio):
        if not Path(path).is_file():
            raise UserError(f"{path}: no such file")
    if not (store.read_provenance(dataset_path)["weights"] or {}).get(student.modality):
        raise UserError(f"{dataset_path} holds features that came ready-made: no extractor makes more of them here")
    settings = settings or _recorded_settings(dataset_path, student.modality)
    if weights_path is None and bundle.needs_weights_file(student.modality, settings):
        weights_path = Path(dataset_path).parent.parent / "weights" / f"{student.modality}.safetensors"
        if not weights_path.is_file():
            raise UserError(f"{weights_path} does not exist: name the extractor's weights with --weights FILE")
    with tempfile.TemporaryDirectory(prefix="predict-") as folder:
        catalog, media = Path(folder, "catalog.parquet"), None
        if audio:
            media = Path(folder, "media.parquet")
            _write_media(media, audio)
        _write_catalog(catalog, [*texts, *map(_read_text, text_files)] or [None] * len(audio))
        vectors = _features(
            student.modality, names, catalog, media, dataset_path, settings, weights_path, Path(folder, "rows.parquet")
        )
    mean = scores(student, vectors).double().mean(0)  # (items, classes or 1)
    classes = student.task.corpus.classes
    if student.task.corpus.task != CLASSIFICATION or classes is None:
        return [{"item": name, "value": value} for name, (value,) in zip(names, mean.tolist(), strict=True)]
    return [
        {"item": name, "label": classes[int(np.argmax(row))], "probabilities": dict(zip(classes, row, strict=True))}
        for name, row in zip(names, mean.tolist(), strict=True)
    ]


def _features(
    modality: str,
    names: Sequence[str],
    catalog: Path,
    media: Path | None,
    dataset_path: str | Path,
    settings: Mapping[str, Any],
    weights_path: str | Path | None,
    output: Path,
) -> np.ndarray:
    """Vectors (items, width) of the items of a catalog, made and pooled as the dataset's."""
    from pipeline import dataset
    from pipeline.features import shard

    shard.run(modality, catalog, media, 0, 1, settings, weights_path, output)
    of_dataset = store.read_provenance(dataset_path)
    used, recorded = store.read_provenance(output)["extractor"], of_dataset["weights"][modality]
    for key in SAME_EXTRACTOR:
        if used[key] != recorded[key]:
            raise UserError(
                f"another extractor made {dataset_path}: its {key} is {recorded[key]!r}, here {used[key]!r}; "
                "name the one that made it with --features JSON and --weights FILE"
            )
    pooling = of_dataset["settings"].get(modality, {}).get("pooling")
    pooled = dataset.pool([output], dataset.column_of(pooling))
    row_of = {item_id: row for row, item_id in enumerate(pooled.item_ids)}
    for number, name in enumerate(names):
        if _id(number) not in row_of:
            raise UserError(f"{name}: {pooled.reasons.get(_id(number), 'it gives no features')}")
    return pooled.vectors[[row_of[_id(number)] for number in range(len(names))]]


def _recorded_settings(dataset_path: str | Path, modality: str) -> dict[str, Any]:
    """The extractor's settings, as the feature files tell that the dataset was made from."""
    made_by = store.read_provenance(dataset_path)
    digests = set(made_by["inputs"].values())
    beside = sorted((Path(dataset_path).parent / "features" / modality).glob("*.parquet"))
    for path in (*beside, *map(Path, made_by["inputs"])):
        if path.is_file():
            of_file = store.read_provenance(path)
            if of_file["step"] == f"features {modality}" and store.sha256_of(path) in digests:
                return of_file["settings"]
    raise UserError(
        f"the {modality} feature files that {dataset_path} was made from are gone: "
        f"write the config's features.{modality} as --features JSON"
    )


def _write_catalog(path: Path, texts: Sequence[str | None]) -> None:
    rows = [
        {"item_id": _id(number), "group": "new", "text": text and text.strip(), "target": 0.0}
        for number, text in enumerate(texts)
    ]
    table = pa.Table.from_pylist(rows, schema=store.schema("catalog"))
    store.write(path, table, "catalog", {"step": "predict", "corpus": None})


def _write_media(path: Path, files: Sequence[str]) -> None:
    """The sound of some files. Raises UserError for one without."""
    import hashlib

    from pipeline.media.audio import AudioError, to_flac

    columns = store.schema("media")
    with store.writer(path, columns, {"step": "predict"}) as out:
        for number, file in enumerate(files):
            try:
                sound = to_flac(file)
            except AudioError as error:
                raise UserError(f"{file}: {error}") from None
            row = {
                "item_id": _id(number),
                "status": "ok",
                "sha256": hashlib.sha256(sound.flac).hexdigest(),
                "duration_s": sound.duration_s,
                "audio": sound.flac,
            }
            out.write(pa.Table.from_pylist([row], schema=columns))


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None


def _id(number: int) -> str:
    return f"item{number:06d}"
