"""TED talks, from the two tables of the Kaggle data set: reads ted_main.csv and transcripts.csv, gives the catalog.

`ratings` is a Python literal: fourteen names that viewers could give to a talk, each with its count. Nine are positive,
five negative; score = negative / positive, and the label is the half of the corpus that the talk falls in: `top` has
the lower scores. The talks are ranked by score, those of equal score by id; of an odd number the middle one is in the
top half. So the halves never differ by more than one, and no row order or tie can change them. Index 0 is `top`, as in
the published labels.

The transcript is kept as it stands, stage directions such as "(Laughter)" included: a text encoder may use them, and
the paper's did. A talk without a transcript stays, with a null text. Of a talk that stands in several rows one is kept.
"""

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.corpora import Catalog, catalog, clean_id, existing_file, not_utf8, read_csv, required
from pipeline.errors import UserError

POSITIVE = frozenset(
    {
        "Funny",
        "Beautiful",
        "Ingenious",
        "Courageous",
        "Informative",
        "Fascinating",
        "Persuasive",
        "Jaw-dropping",
        "Inspiring",
    }
)
NEGATIVE = frozenset({"Longwinded", "Confusing", "Unconvincing", "OK", "Obnoxious"})
CLASSES = ("top", "bottom")

_URL = re.compile(r"(https?)://(?:www\.)?ted\.com/talks/([^/?#\s]+)/?(?:[?#]\S*)?")
_ADVICE = "download the data set https://www.kaggle.com/datasets/rounakbanik/ted-talks and name the file as corpora.ted"
_OWN = {
    "title": pa.string(),
    "speaker": pa.string(),
    "event": pa.string(),
    "duration_s": pa.float64(),
    "positive": pa.int64(),
    "negative": pa.int64(),
    "score": pa.float64(),
}


def inputs(settings: Mapping[str, Any]) -> list[str]:
    """The two tables. Raises UserError where one is missing."""
    return [
        str(existing_file(required(settings, key, "ted"), f"{_ADVICE}.{key}")) for key in ("metadata", "transcripts")
    ]


def raw_files(settings: Mapping[str, Any]) -> list[str]:
    """None: the recordings are fetched from the talks' pages."""
    return []


def modalities(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Transcript and soundtrack."""
    return ("lexical", "acoustic")


def prepare(settings: Mapping[str, Any]) -> Catalog:
    """The catalog of the talks; `source` is the talk's page, `group` its speaker.

    Own columns: title, speaker, event, duration_s, positive and negative (counts of ratings), score (their quotient).
    """
    metadata, transcripts = (Path(path) for path in inputs(settings))
    texts, repeated_texts = _transcripts(transcripts)
    left_out: dict[str, str] = {}
    rows: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, fields in read_csv(metadata, ("url", "ratings", "main_speaker")):
        try:
            row = _talk(fields)
        except ValueError as error:
            left_out[f"{metadata.name} row {number}"] = str(error)
        else:
            rows.setdefault(row["item_id"], []).append((number, row))
    talks = []
    for item_id, same in rows.items():
        same.sort(key=_most_rated_first)
        kept_number, kept = same[0]
        for number, _ in same[1:]:
            left_out[f"{metadata.name} row {number}"] = f"the talk {item_id} again, row {kept_number} is kept"
        kept["text"] = texts.pop(item_id, None)
        talks.append(kept)
    halves = median_halves({talk["item_id"]: talk["score"] for talk in talks})
    for talk in talks:
        talk["target"] = float(halves[talk["item_id"]])
        talk["label"] = CLASSES[halves[talk["item_id"]]]
    repeated = sum(len(same) - 1 for same in rows.values())
    unusable = len(left_out) - repeated
    notes = [f"{sum(talk['text'] is None for talk in talks)} talks have no transcript"]
    notes += [f"{repeated} rows of {metadata.name} left out: the talk stands in another row"] if repeated else []
    notes += [f"{unusable} rows of {metadata.name} left out: no usable url or ratings"] if unusable else []
    notes += [f"{repeated_texts} rows of {transcripts.name} not used: the talk stands twice"] if repeated_texts else []
    notes += [f"{len(texts)} transcripts belong to no talk of {metadata.name}"] if texts else []
    notes += not_utf8((metadata, transcripts))
    return catalog(talks, "classification", CLASSES, metadata, _OWN, left_out, notes)


def _talk(fields: Mapping[str, str]) -> dict[str, Any]:
    """A row of ted_main.csv as a catalog row without text and label. Raises ValueError with the reason it is none."""
    item_id, page = talk_of(fields["url"])
    positive, negative = count_ratings(fields["ratings"])
    speaker = " ".join(fields["main_speaker"].split())
    return {
        "item_id": item_id,
        "group": speaker or item_id,
        "source": page,
        "title": fields.get("title") or None,
        "speaker": speaker or None,
        "event": fields.get("event") or None,
        "duration_s": _number(fields.get("duration")),
        "positive": positive,
        "negative": negative,
        "score": score(positive, negative),
    }


def talk_of(url: str) -> tuple[str, str]:
    """The id of a talk (the slug of its page) and the address of its page, without query or fragment.

    Raises ValueError if `url` is no talk's page, or its slug no id.
    """
    match = _URL.fullmatch(url.strip())
    if not match or clean_id(match[2]) != match[2]:
        raise ValueError(f"url {url.strip()[:80]!r} is no page of a talk")
    return match[2], f"{match[1]}://www.ted.com/talks/{match[2]}"


def count_ratings(literal: str) -> tuple[int, int]:
    """(positive, negative) counts from the Python literal in the column `ratings`.

    Raises ValueError for text that is no list of counted names, and for a name that is neither positive nor negative.
    """
    try:
        ratings = [(entry["name"], entry["count"]) for entry in ast.literal_eval(literal)]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise ValueError(f"ratings {literal[:60]!r} are no list of counted names") from None
    positive = negative = 0
    for name, count in ratings:
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise ValueError(f"the rating {name!r} has the count {count!r}")
        if name in POSITIVE:
            positive += count
        elif name in NEGATIVE:
            negative += count
        else:
            raise ValueError(f"the rating {name!r} is neither a positive nor a negative one")
    return positive, negative


def score(positive: int, negative: int) -> float:
    """negative / positive; infinite where nobody gave a positive rating. Raises ValueError where nobody gave any."""
    if positive == negative == 0:
        raise ValueError("the talk has no ratings")
    return negative / positive if positive else float("inf")


def median_halves(scores: Mapping[str, float]) -> dict[str, int]:
    """The half of the corpus that each item falls in: 0 (`top`, the lower scores) or 1 (`bottom`).

    Items are ranked by (score, id); the first ceil(n / 2) are the top half.
    """
    ranked = sorted(scores, key=lambda item_id: (scores[item_id], item_id))
    top = (len(ranked) + 1) // 2
    return {item_id: int(rank >= top) for rank, item_id in enumerate(ranked)}


def speakers(metadata: str | Path) -> dict[str, str]:
    """Talk id -> speaker, from ted_main.csv: the groups of a list of talks that has no speakers of its own."""
    found = {}
    for number, fields in read_csv(existing_file(metadata, _ADVICE), ("url", "main_speaker")):
        try:
            item_id, _ = talk_of(fields["url"])
        except ValueError as error:
            raise UserError(f"{metadata}, row {number}: {error}; remove the row") from None
        found[item_id] = " ".join(fields["main_speaker"].split()) or item_id
    return found


def _transcripts(path: Path) -> tuple[dict[str, str], int]:
    """Talk id -> transcript (of two for one talk, the longer), and the number of rows that were not used."""
    texts: dict[str, str] = {}
    repeated = 0
    for number, fields in read_csv(path, ("url", "transcript")):
        try:
            item_id, _ = talk_of(fields["url"])
        except ValueError:
            item_id = f"row {number}"  # the id of no talk, and counted as such
        repeated += item_id in texts
        if fields["transcript"]:
            texts[item_id] = max(texts.get(item_id, ""), fields["transcript"], key=lambda text: (len(text), text))
    return texts, repeated


def _most_rated_first(numbered: tuple[int, dict[str, Any]]) -> tuple:
    """Sort key for the rows of one talk: by what they say, so that their order in the file decides nothing."""
    number, row = numbered
    return (-row["positive"] - row["negative"], repr(sorted(row.items(), key=str)), number)


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
