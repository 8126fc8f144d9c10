"""MIT Interview: reads the release's recordings and the two tables of its crowd workers, gives one row an interview.

    Audio/P1.wav ... PP1.wav                        before and after coaching; the number is the participant's
    Labels/turker_scores_full_interview.csv         each worker's scores for each interview, and a row AGGR
    Labels/interview_transcripts_by_turkers.csv     code, and the interview: turns parted by "|", each with its speaker

The tables may lie in any folder of the release, or at its top. Codes differ in case between files (P1.wav, p1) and
every file has an order of its own, so all is joined by the code. The target is the plain mean of the workers' scores
for excitement, scaled to 0..1 over the interviews of the corpus. The row AGGR, the release's own estimate from the same
scores, is no worker: it is kept beside the mean and not averaged into it. (The published labels equal neither; they
correlate with the mean as with AGGR, .95.)
"""

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.corpora import (
    Catalog,
    ItemIds,
    catalog,
    counted,
    existing_folder,
    is_release_file,
    not_utf8,
    read_csv,
    read_text,
    required,
    some,
)
from pipeline.errors import UserError

SCORES = "turker_scores_full_interview.csv"
TRANSCRIPTS = "interview_transcripts_by_turkers.csv"
AGGREGATE = "AGGR"

_CODE = re.compile(r"(p{1,2})0*([1-9]\d*)")
_SPEAKER = re.compile(r"\s*(i[a-z]*v[a-z]*w[a-z]*)\s*:", re.IGNORECASE)  # the release has "Interveiwee:" too
_QUOTED = re.compile(r'"(.*)"')
_STAGE_DIRECTION = re.compile(r"\s*[\[(][^\])]*[\])]\s*")
_ADVICE = (
    "ask the authors of https://arxiv.org/abs/1504.03425 for the MIT Interview data set, unpack it, and let "
    "corpora.mit.root name its folder"
)
_OWN = {
    "participant": pa.string(),
    "occasion": pa.string(),
    "raters": pa.int32(),
    "excited_mean": pa.float64(),
    "excited_aggregate": pa.float64(),
}


def inputs(settings: Mapping[str, Any]) -> list[str]:
    """The two tables. Raises UserError where one is missing."""
    root = existing_folder(required(settings, "root", "mit"), _ADVICE)
    return [str(_table(root, SCORES)), str(_table(root, TRANSCRIPTS))]


def raw_files(settings: Mapping[str, Any]) -> list[str]:
    """The recordings, sorted."""
    return sorted(
        str(path) for path in _recordings(existing_folder(required(settings, "root", "mit"), _ADVICE)).values()
    )


def modalities(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What the interviewee said, and the sound of the interview."""
    return ("lexical", "acoustic")


def prepare(settings: Mapping[str, Any]) -> Catalog:
    """The catalog of the interviews (p1: before coaching, pp1: after); `source` is the recording, `group` p1 for both.

    Own columns: participant, occasion (before or after), raters (their number), excited_mean (their mean, 1..7),
    excited_aggregate (the release's estimate).
    """
    scores_path, transcripts_path = (Path(path) for path in inputs(settings))
    recordings = _recordings(Path(settings["root"]))
    texts = _transcripts(transcripts_path)
    scores, aggregate = _scores(scores_path)
    means = {code: sum(given) / len(given) for code, given in scores.items()}
    left_out = dict.fromkeys((recordings.keys() | texts.keys()) - means.keys(), f"no score in {scores_path.name}")
    left_out |= dict.fromkeys(means.keys() - recordings.keys() - texts.keys(), "neither recording nor transcript")
    kept = sorted(means.keys() - left_out.keys())
    targets = dict(zip(kept, unit_scale([means[code] for code in kept], str(scores_path)), strict=True))
    ids, rows = ItemIds(), []
    for code in kept:
        participant, occasion = participant_of(code)
        rows.append(
            {
                "item_id": ids.add(code, str(scores_path)),
                "group": participant,
                "text": texts.get(code),
                "target": targets[code],
                "source": recordings.get(code),
                "participant": participant,
                "occasion": occasion,
                "raters": len(scores[code]),
                "excited_mean": means[code],
                "excited_aggregate": aggregate.get(code),
            }
        )
    notes = counted(left_out.values())
    for column, what in (("text", "transcript"), ("source", "recording")):
        lacking = [row["item_id"] for row in rows if row[column] is None]
        notes += [f"{len(lacking)} interviews have no {what}: {some(lacking)}"] if lacking else []
    notes += not_utf8((scores_path, transcripts_path))
    return catalog(rows, "regression", None, scores_path, _OWN, left_out, notes)


def code_of(name: str) -> str | None:
    """An interview's code as all files are joined by it: P1 -> p1, PP03 -> pp3. None for a name that is no code."""
    match = _CODE.fullmatch(name.strip().lower())
    return f"{match[1]}{match[2]}" if match else None


def participant_of(code: str) -> tuple[str, str]:
    """The participant of an interview and the occasion: pp7 -> ("p7", "after")."""
    return code.removeprefix("p") if code.startswith("pp") else code, "after" if code.startswith("pp") else "before"


def numeric_order(code: str) -> tuple[int, int]:
    """Sort key: p1, p3, p10, ..., then pp1, pp3, pp10 (in alphabetical order p10 stands before p3)."""
    prefix = "pp" if code.startswith("pp") else "p"
    return len(prefix), int(code.removeprefix(prefix))


def interviewee_words(transcript: str) -> str:
    """What the interviewee said, the turns joined by a space; no word of the interviewer's.

    Turns are parted by "|" and begin with a speaker ("Interviewee:", also as misspelt in the release). A part without a
    speaker goes on with the turn before it, unless it is a stage direction alone, such as "[laughter]".
    """
    spoken = []
    is_interviewee = False
    for part in transcript.split("|"):
        label = _SPEAKER.match(part)
        if label:
            is_interviewee = label[1].lower().rstrip("s").endswith("e")
            part = part[label.end() :]
        elif _STAGE_DIRECTION.fullmatch(part):
            continue
        if is_interviewee and part.strip():
            spoken.append(part.strip())
    return " ".join(spoken)


def unit_scale(values: list[float], where: str) -> list[float]:
    """`values` scaled so that the smallest is 0 and the largest 1. Raises UserError where all are equal."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if values and low == high:
        raise UserError(f"{where}: all {len(values)} interviews have the same mean score ({low}); nothing to predict")
    return [(value - low) / (high - low) for value in values]


def _table(root: Path, name: str) -> Path:
    found = sorted(path for pattern in (name, f"*/{name}") for path in root.glob(pattern))
    if not found:
        raise UserError(f"{root} holds no {name}, neither at its top nor in a folder: {_ADVICE}")
    return found[0]


def _recordings(root: Path) -> dict[str, str]:
    """Code -> recording, from the folder Audio (the release's own description calls it Audios)."""
    found: dict[str, Path] = {}
    for folder in sorted(root.glob("[Aa]udio*")):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            code = code_of(path.stem)
            if code is None or not is_release_file(path, ".wav"):
                continue
            if code in found:
                raise UserError(f"{found[code]} and {path} are both the interview {code}; remove or rename one")
            found[code] = path
    return {code: str(path) for code, path in found.items()}


def _scores(path: Path) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Code -> the workers' scores for excitement, sorted; and code -> the release's aggregate of them."""
    scores: dict[str, list[float]] = {}
    aggregate: dict[str, float] = {}
    seen: dict[tuple[str, str], int] = {}
    for number, fields in read_csv(path, ("Participant", "Worker", "Excited")):
        code = code_of(fields["Participant"])
        if code is None:
            raise UserError(f"{path}, row {number}: {fields['Participant']!r} is no participant, such as p1; mend it")
        worker = fields["Worker"].upper()
        first = seen.setdefault((code, worker), number)
        if first != number:
            raise UserError(f"{path}, row {number}: {worker} scored {code} in row {first} already; keep one")
        value = _score(fields["Excited"], f"{path}, row {number}")
        if worker == AGGREGATE:
            aggregate[code] = value
        else:
            scores.setdefault(code, []).append(value)
    return {code: sorted(values) for code, values in scores.items()}, aggregate


def _score(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 1 <= value <= 7:
        raise UserError(f"{where}: the score for Excited is {text!r}; it is a number from 1 to 7")
    return value


def _transcripts(path: Path) -> dict[str, str]:
    """Code -> the interviewee's words, for each interview in which there are any."""
    texts: dict[str, str] = {}
    for number, code, transcript in _transcript_rows(path):
        if code in texts:
            raise UserError(f"{path}, row {number}: a second transcript of {code}; keep one")
        texts[code] = interviewee_words(transcript)
    return {code: words for code, words in texts.items() if words}


def _transcript_rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, code, transcript). The file is no CSV: a line is a code, a comma and the transcript as it was typed.

    The release has no quotes around a transcript, so a quote within one opens nothing. Copies may have quotes around
    their fields, and a header.
    """
    for number, line in enumerate(io.StringIO(read_text(path), newline=None), start=1):
        first, _, rest = line.strip().partition(",")
        code = code_of(_unquoted(first))
        if code is not None:
            yield number, code, _unquoted(rest)
        elif number > 1 and line.strip().strip(","):
            raise UserError(f"{path}, row {number} begins with {first[:40]!r} and no participant, such as p1; mend it")


def _unquoted(field: str) -> str:
    """A field of a copy that was written with quotes; any other as it is."""
    match = _QUOTED.fullmatch(field.strip())
    return match[1].replace('""', '"') if match else field
