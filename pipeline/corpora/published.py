"""The authors' own feature files: reads a JudgeNet checkout as it is, gives a catalog and one vector an item.

    data/ted/dataset.csv                                         url, paths of the vectors, counts of ratings
    data/ted/features/{audio,lexical}/*.pt                       (128,) and (768,), one file a talk
    data/mit_interview/turker_scores_full_interview.csv          the codes of the interviews
    data/mit_interview/features/{Excited,lexical,audio}.pt       (138,), (138, 768), (138, 128)

TED: rows that were cut off, and further rows of a talk, are left out and named. The speakers come from Kaggle's
ted_main.csv where the config names one; else each talk is its own group.

MIT: a row of these tensors belongs to whom its position says, and the positions differ. `lexical` and `Excited` are in
alphabetical order of the code (p1, p10, p11, ...), `audio` is in numeric order (p1, p3, p4, ..., then pp1, ...). They
are aligned by code here; read as they lie, a model learns from other people's voices. The target is Excited.pt scaled
to 0..1.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.corpora import (
    Catalog,
    ItemIds,
    catalog,
    csv_rows,
    existing_file,
    existing_folder,
    mit,
    not_utf8,
    read_csv,
    some,
    ted,
)
from pipeline.errors import UserError
from pipeline.progress import progress

CORPORA = ("ted", "mit")
MODALITIES = ("lexical", "acoustic")
FILE_COLUMNS = {"lexical": "lexical_feature_path", "acoustic": "audio_feature_path"}
TED_COLUMNS = ["url", "audio_feature_path", "lexical_feature_path", "pos_count", "neg_count"]

_WHOLE = re.compile(r"ted/features/audio/audio_\d+\.pt,ted/features/lexical/lexical_\d+\.pt,\d+,\d+")
_ADVICE = "clone https://github.com/jullian-yapeter/JudgeNet and name the folder: --config judgenet=FOLDER"
_TED_OWN = {"positive": pa.int64(), "negative": pa.int64(), "score": pa.float64()}
_MIT_OWN = {"participant": pa.string(), "occasion": pa.string(), "excited": pa.float64()}


@dataclass(frozen=True)
class Published:
    """A catalog (text and source are null: there are only vectors), and for each modality the vector of each item."""

    catalog: Catalog
    features: dict[str, dict[str, np.ndarray]]  # modality -> item_id -> (width,) float32

    @property
    def left_out(self) -> dict[str, str]:
        return self.catalog.left_out


def inputs(corpus: str, settings: Mapping[str, Any]) -> list[str]:
    """The annotation files. Raises UserError where one is missing."""
    data = _data(corpus, settings)
    if corpus == "mit":
        return [str(existing_file(data / mit.SCORES, _ADVICE))]
    found = [str(existing_file(data / "dataset.csv", _ADVICE))]
    if settings.get("metadata"):
        found.append(str(existing_file(settings["metadata"], "let corpora.ted.metadata name Kaggle's ted_main.csv")))
    return found


def raw_files(corpus: str, settings: Mapping[str, Any]) -> list[str]:
    """The feature files, sorted."""
    features = _data(corpus, settings) / "features"
    folders = [features] if corpus == "mit" else [features / "audio", features / "lexical"]
    return sorted(str(path) for folder in folders for path in folder.glob("*.pt"))


def modalities(corpus: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Lexical and acoustic vectors: the authors published no others."""
    return MODALITIES


def read(corpus: str, settings: Mapping[str, Any]) -> Published:
    """Read `corpus` ("ted" or "mit"). `settings`: judgenet (the checkout), metadata (Kaggle's ted_main.csv, or None).

    Raises UserError for a file that is missing or of another shape than published.
    """
    data = _data(corpus, settings)
    return _read_ted(data, settings) if corpus == "ted" else _read_mit(data, settings)


def _read_ted(data: Path, settings: Mapping[str, Any]) -> Published:
    path, *metadata = inputs("ted", settings)
    talks, left_out, notes = _ted_rows(Path(path))
    vectors: dict[str, dict[str, np.ndarray]] = {modality: {} for modality in MODALITIES}
    for item_id, talk in progress(sorted(talks.items()), what="feature files"):
        for modality, column in FILE_COLUMNS.items():
            file = data.parent / talk[column]  # the table's paths begin with ted/
            if file.is_file():
                vectors[modality][item_id] = _load(file, 1)
            else:
                left_out[item_id] = f"no feature file {talk[column]}"
    missing = [item_id for item_id in talks if item_id in left_out]
    kept = {item_id: talk for item_id, talk in talks.items() if item_id not in left_out}
    notes += [f"{len(missing)} talks left out: their feature file is missing ({some(missing)})"] if missing else []
    speakers = ted.speakers(metadata[0]) if metadata else {}
    unknown = [item_id for item_id in kept if item_id not in speakers]
    if not metadata:
        notes.append("no speakers: each talk is its own group; let corpora.ted.metadata name Kaggle's ted_main.csv")
    elif unknown:
        notes.append(f"{len(unknown)} talks are not in {metadata[0]}: each is its own group ({some(unknown)})")
    halves = ted.median_halves({item_id: talk["score"] for item_id, talk in kept.items()})
    rows = [
        {
            "item_id": item_id,
            "group": speakers.get(item_id, item_id),
            "target": float(halves[item_id]),
            "label": ted.CLASSES[halves[item_id]],
            **{name: talk[name] for name in _TED_OWN},
        }
        for item_id, talk in kept.items()
    ]
    notes += not_utf8([path, *metadata])
    made = catalog(rows, "classification", ted.CLASSES, path, _TED_OWN, left_out, notes)
    return Published(made, {name: {key: found[key] for key in kept} for name, found in _same_width(vectors).items()})


def _ted_rows(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str], list[str]]:
    """The talks, the rows left out, and the notes on them.

    Of several whole rows of a talk the one whose vectors were numbered first is kept. A row's number is its line.
    """
    rows = csv_rows(path)
    if not rows or [name.strip() for name in rows[0][1]] != TED_COLUMNS:
        raise UserError(f"{path} has other columns than {', '.join(TED_COLUMNS)}: {_ADVICE}")
    left_out: dict[str, str] = {}
    truncated: dict[int, str] = {}  # line -> talk
    whole: dict[str, list[dict[str, Any]]] = {}
    for line, fields in rows[1:]:
        try:
            item_id, _ = ted.talk_of(fields[0])
            if not _WHOLE.fullmatch(",".join(fields[1:])):
                truncated[line] = item_id
                raise ValueError(f"the row is truncated: {','.join(fields)[-60:]!r}")
            counts = {"positive": int(fields[3]), "negative": int(fields[4])}
            paths = dict(zip(TED_COLUMNS[1:3], fields[1:3], strict=True))
            row = {"line": line, **paths, **counts, "score": ted.score(**counts)}
            whole.setdefault(item_id, []).append(row)
        except ValueError as error:
            left_out[f"{path.name} line {line}"] = str(error)
    talks = {}
    for item_id, same in whole.items():
        talks[item_id], *again = sorted(same, key=_numbered_first)
        for row in again:
            left_out[f"{path.name} line {row['line']}"] = f"{item_id} again, line {talks[item_id]['line']} is kept"
    of_truncated = [item_id for item_id in truncated.values() if item_id in talks]
    repeated = {item_id for item_id, same in whole.items() if len(same) > 1} | set(of_truncated)
    lines = f" (lines {', '.join(map(str, sorted(truncated)))})" if truncated else ""
    among = f" ({some(of_truncated)}: once in a truncated row)" if of_truncated else ""
    lost = sorted(set(truncated.values()) - talks.keys())
    notes = [
        f"{len(truncated)} truncated rows{lines} and {len(repeated)} repeated talks{among} left out: "
        f"{len(talks)} talks remain of {len(rows) - 1} rows"
    ]
    notes += [f"no whole row of {some(lost)}"] if lost else []
    return talks, left_out, notes


def _numbered_first(row: Mapping[str, Any]) -> tuple[int, str]:
    path = row[FILE_COLUMNS["lexical"]]
    return len(path), path


def _read_mit(data: Path, settings: Mapping[str, Any]) -> Published:
    scores = Path(inputs("mit", settings)[0])
    codes = {mit.code_of(fields["Participant"]) for _, fields in read_csv(scores, ("Participant",))}
    if None in codes:
        raise UserError(f"{scores} has a Participant that is no code such as p1 or pp1: {_ADVICE}")
    alphabetical, numeric = sorted(codes), sorted(codes, key=mit.numeric_order)
    tensors = {}
    for name, dimensions in (("Excited", 1), ("lexical", 2), ("audio", 2)):
        file = data / "features" / f"{name}.pt"
        tensors[name] = _load(existing_file(file, _ADVICE), dimensions)
        if len(tensors[name]) != len(codes):
            raise UserError(
                f"{file} has {len(tensors[name])} rows, {scores.name} names {len(codes)} interviews: {_ADVICE}"
            )
    excited = dict(zip(alphabetical, tensors["Excited"].tolist(), strict=True))
    targets = dict(zip(excited, mit.unit_scale(list(excited.values()), str(data / "features")), strict=True))
    ids, rows = ItemIds(), []
    for code in alphabetical:
        participant, occasion = mit.participant_of(code)
        rows.append(
            {
                "item_id": ids.add(code, str(scores)),
                "group": participant,
                "target": targets[code],
                "participant": participant,
                "occasion": occasion,
                "excited": excited[code],
            }
        )
    notes = [f"{len(rows)} interviews of {len({row['group'] for row in rows})} participants, aligned by code"]
    notes += not_utf8([scores])
    made = catalog(rows, "regression", None, scores, _MIT_OWN, {}, notes)
    return Published(
        made,
        {
            "lexical": dict(zip(alphabetical, tensors["lexical"], strict=True)),
            "acoustic": dict(zip(numeric, tensors["audio"], strict=True)),
        },
    )


def _data(corpus: str, settings: Mapping[str, Any]) -> Path:
    if corpus not in CORPORA:
        raise UserError(f"the authors published no features of {corpus!r}, only of {' and '.join(CORPORA)}")
    checkout = settings.get("judgenet")
    if not checkout:
        raise UserError(f"the config names no JudgeNet checkout: {_ADVICE}")
    return existing_folder(Path(checkout) / "data" / {"ted": "ted", "mit": "mit_interview"}[corpus], _ADVICE)


def _load(file: Path, dimensions: int) -> np.ndarray:
    """A tensor file as float32; leading dimensions of length 1 are dropped. Weights only: nothing in it is executed."""
    import torch

    try:
        tensor = torch.load(file, map_location="cpu", weights_only=True)
        array = tensor.detach().to(torch.float32).numpy()
    except Exception as error:  # from a broken file torch raises whatever its bytes happen to mean
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{os.fspath(file)} is no tensor that can be read ({reason}): {_ADVICE}") from None
    while array.ndim > dimensions and array.shape[0] == 1:
        array = array[0]
    if array.ndim != dimensions or not np.isfinite(array).all():
        raise UserError(f"{os.fspath(file)} has the shape {array.shape}, or values that are no numbers: {_ADVICE}")
    return array


def _same_width(vectors: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    for modality, found in vectors.items():
        widths: dict[int, str] = {}
        for item_id, vector in found.items():
            widths.setdefault(len(vector), item_id)
        if len(widths) > 1:
            raise UserError(f"the {modality} vectors differ in width, e.g. {widths}: {_ADVICE}")
    return vectors
