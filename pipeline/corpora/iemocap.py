"""IEMOCAP: reads the tree of the full release, gives one row for each utterance of the four classes.

    SessionN/dialog/EmoEvaluation/DIALOGUE.txt     utterance, times, consensus emotion, [valence, activation, dominance]
    SessionN/dialog/transcriptions/DIALOGUE.txt    utterance, times, words
    SessionN/dialog/avi/DivX/DIALOGUE.avi          both actors side by side
    SessionN/sentences/wav/DIALOGUE/UTTERANCE.wav  one utterance

A dialogue is named after its session and the actor who wears the motion-capture markers (Ses01F_impro01: the woman of
session 1), an utterance after its dialogue and its speaker (Ses01F_impro01_M003). Happiness and excitement are one
class; an utterance with another consensus, or none, is left out. The release has 5,531 utterances in the four classes
(1,103 angry, 1,636 happy, 1,084 sad, 1,708 neutral). The index of a class is the one of the published list.

Transcriptions are kept as they stand, "[LAUGHTER]" included.
"""

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
    read_text,
    required,
    some,
)
from pipeline.errors import UserError

SESSIONS = (1, 2, 3, 4, 5)
CLASSES = ("angry", "sad", "happy", "neutral")
CLASS_OF = {"ang": "angry", "sad": "sad", "hap": "happy", "exc": "happy", "neu": "neutral"}
SIDES = ("left", "right")

_NAMES = {
    "xxx": "no majority among the annotators (xxx)",
    "fru": "frustration (fru)",
    "sur": "surprise (sur)",
    "fea": "fear (fea)",
    "dis": "disgust (dis)",
    "oth": "another emotion (oth)",
}
_UTTERANCE = re.compile(r"(Ses(\d\d)([FM])_\w+)_([FM])\w+")
_NUMBER = r"\s*\d+(?:\.\d+)?\s*"
_EVALUATION = re.compile(
    rf"\[(?P<start>{_NUMBER})-(?P<end>{_NUMBER})\]\s+(?P<utterance>\S+)\s+(?P<emotion>\w+)\s+"
    rf"\[(?P<valence>{_NUMBER}),(?P<activation>{_NUMBER}),(?P<dominance>{_NUMBER})\]"
)
_TRANSCRIPTION = re.compile(r"(?P<utterance>Ses\w+)\s*\[[^\]]*\]\s*:\s*(?P<text>.*)")
_ADVICE = (
    "ask for the release at https://sail.usc.edu/iemocap/, unpack it, and let corpora.iemocap.root name the folder "
    "that holds Session1 to Session5"
)
_AGAIN = "get the file from the release again"
_OWN = {
    "session": pa.int32(),
    "dialogue": pa.string(),
    "speaker": pa.string(),
    "emotion": pa.string(),
    "valence": pa.float64(),
    "activation": pa.float64(),
    "dominance": pa.float64(),
    "video": pa.string(),
    "video_start_s": pa.float64(),
    "video_end_s": pa.float64(),
    "side": pa.string(),
}


def inputs(settings: Mapping[str, Any]) -> list[str]:
    """Evaluations and transcriptions of every dialogue, sorted. Raises UserError where the release is not there."""
    return [
        str(path)
        for session in _sessions(settings).values()
        for folder in ("EmoEvaluation", "transcriptions")
        for path in _below(session / "dialog" / folder, ".txt")
    ]


def raw_files(settings: Mapping[str, Any]) -> list[str]:
    """The utterances' recordings and the dialogues' videos, sorted."""
    return [str(path) for session in _sessions(settings).values() for path in [*_wavs(session), *_videos(session)]]


def modalities(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Words, voice and face; no face where the release was unpacked without its videos."""
    has_videos = any(True for session in _sessions(settings).values() for _ in _videos(session))
    return ("lexical", "acoustic", "visual") if has_videos else ("lexical", "acoustic")


def prepare(settings: Mapping[str, Any]) -> Catalog:
    """The catalog of the utterances; `source` is the utterance's own recording, `group` its speaker (F01 .. M05).

    Own columns: session, dialogue, speaker, emotion (the consensus as released, e.g. exc), valence, activation and
    dominance (means over annotators, 1..5), video with video_start_s and video_end_s, side (the half of the picture
    that shows the speaker). `settings["sides"]` may set the sides of a dialogue: {DIALOGUE: {F: left, M: right}}.
    """
    sessions = _sessions(settings)
    sides = _checked_sides(settings.get("sides") or {})
    ids, rows, left_out, notes = ItemIds(), [], {}, []
    for number, session in sessions.items():
        wavs = {path.stem: str(path) for path in _wavs(session)}
        videos = {path.stem: str(path) for path in _videos(session)}
        texts = dict(_transcriptions(session))
        for where, fields in _evaluations(session):
            item_id = ids.add(fields["utterance"], where)
            match = _UTTERANCE.fullmatch(item_id)
            if not match:
                raise UserError(f"{where}: {item_id!r} is no name of an utterance; {_AGAIN}")
            label = CLASS_OF.get(fields["emotion"])
            if label is None:
                left_out[item_id] = f"consensus: {_NAMES.get(fields['emotion'], fields['emotion'])}"
                continue
            dialogue, gender = match[1], match[4]
            speaker = f"{gender}{match[2]}"
            video = videos.get(dialogue)
            rows.append(
                {
                    "item_id": item_id,
                    "group": speaker,
                    "text": texts.get(item_id) or None,
                    "target": float(CLASSES.index(label)),
                    "label": label,
                    "source": wavs.get(item_id),
                    "session": number,
                    "dialogue": dialogue,
                    "speaker": speaker,
                    "emotion": fields["emotion"],
                    **{name: float(fields[name]) for name in ("valence", "activation", "dominance")},
                    "video": video,
                    "video_start_s": float(fields["start"]) if video else None,
                    "video_end_s": float(fields["end"]) if video else None,
                    "side": side_of(dialogue, gender, sides) if video else None,
                }
            )
    unknown = sides.keys() - {row["dialogue"] for row in rows}
    if unknown:
        raise UserError(f"corpora.iemocap.sides names {some(unknown)}: no such dialogue in {settings['root']}")
    absent = [f"Session{number}" for number in SESSIONS if number not in sessions]
    notes += [f"{', '.join(absent)} not in {settings['root']}"] if absent else []
    for column, what in (("text", "transcription"), ("source", "recording"), ("video", "video")):
        lacking = [row["item_id"] for row in rows if row[column] is None]
        notes += [f"{len(lacking)} utterances have no {what}: {some(lacking)}"] if lacking else []
    notes += counted(left_out.values())
    notes += not_utf8(inputs(settings))
    return catalog(rows, "classification", CLASSES, settings["root"], _OWN, left_out, notes)


def side_of(dialogue: str, gender: str, sides: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """The half of the picture, "left" or "right", that shows the actor of `gender` ("F" or "M") in `dialogue`.

    The actor who wears the markers, whom the letter in the dialogue's name tells, sits on the left: Ses01F_impro01
    shows the woman on the left, Ses01M_impro01 the man. This is what published preprocessing of these videos assumes,
    and no document of the release; where it is wrong for a dialogue, `sides` ({dialogue: {gender: side}}) wins.
    """
    set_by_hand = (sides or {}).get(dialogue, {}).get(gender)
    if set_by_hand:
        return set_by_hand
    return "left" if dialogue[5] == gender else "right"


def _sessions(settings: Mapping[str, Any]) -> dict[int, Path]:
    """Session number -> its folder, for those that are there."""
    root = existing_folder(required(settings, "root", "iemocap"), _ADVICE)
    found = {number: root / f"Session{number}" for number in SESSIONS}
    found = {number: path for number, path in found.items() if (path / "dialog" / "EmoEvaluation").is_dir()}
    if not found:
        raise UserError(f"{root} holds no SessionN/dialog/EmoEvaluation: {_ADVICE}")
    return found


def _below(folder: Path, suffix: str) -> list[Path]:
    """Files directly in `folder`, sorted: EmoEvaluation holds folders of single annotators, which are not read."""
    return sorted(path for path in folder.glob("Ses*") if is_release_file(path, suffix)) if folder.is_dir() else []


def _wavs(session: Path) -> Iterator[Path]:
    for dialogue in sorted((session / "sentences" / "wav").glob("Ses*")):
        yield from _below(dialogue, ".wav")


def _videos(session: Path) -> list[Path]:
    return _below(session / "dialog" / "avi" / "DivX", ".avi")


def _evaluations(session: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """("FILE, line N", fields) for each utterance; the annotators' own lines below it are not read."""
    for path in _below(session / "dialog" / "EmoEvaluation", ".txt"):
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if not line.startswith("["):
                continue
            match = _EVALUATION.match(line)
            if not match:
                raise UserError(f"{path}, line {number} is cut off ({line[:60]!r}); {_AGAIN}")

            yield f"{path}, line {number}", match.groupdict()


def _transcriptions(session: Path) -> Iterator[tuple[str, str]]:
    """(utterance, words); lines without an utterance (the director's, or breathing between turns) are not read."""
    for path in _below(session / "dialog" / "transcriptions", ".txt"):
        for line in read_text(path).splitlines():
            if match := _TRANSCRIPTION.match(line):
                yield match["utterance"], match["text"].strip()


def _checked_sides(sides: Any) -> dict[str, dict[str, str]]:
    example = "write it as {Ses01F_impro01: {F: left, M: right}}"
    if not isinstance(sides, Mapping):
        raise UserError(f"corpora.iemocap.sides is {sides!r}; {example}")
    for dialogue, by_gender in sides.items():
        right = isinstance(by_gender, Mapping) and all(
            gender in ("F", "M") and side in SIDES for gender, side in by_gender.items()
        )
        if not right:
            raise UserError(f"corpora.iemocap.sides has {by_gender!r} for {dialogue}; {example}")
    return dict(sides)
