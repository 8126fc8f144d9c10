"""The embedded corpora are what data/README.md says: small, in the real formats, and imperfect like the real ones."""

import ast
import csv
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from pipeline.media.audio import to_flac
from pipeline.media.ffmpeg import executable
from pipeline.media.video import frames
from tests.demo_site import DEMO

KAGGLE_COLUMNS = (
    "comments,description,duration,event,film_date,languages,main_speaker,name,num_speaker,published_date,ratings,"
    "related_talks,speaker_occupation,tags,title,url,views"
)
RATING_IDS = {
    "Funny": 7, "Beautiful": 1, "Ingenious": 9, "Courageous": 3, "Longwinded": 11, "Confusing": 2, "Informative": 8,
    "Fascinating": 22, "Unconvincing": 21, "Persuasive": 24, "Jaw-dropping": 23, "OK": 25, "Obnoxious": 26,
    "Inspiring": 10,
}  # fmt: skip
FILMS = sorted(DEMO.glob("iemocap/Session*/dialog/avi/DivX/*.avi"))


def read_csv(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def what_ffmpeg_sees(path):
    done = subprocess.run([executable(), "-hide_banner", "-i", str(path)], capture_output=True, text=True)
    return done.stderr


@pytest.fixture(scope="module")
def talks():
    return read_csv(DEMO / "ted/ted_main.csv")


@pytest.fixture(scope="module")
def utterances():
    """{utterance: consensus emotion} over all evaluations."""
    found = {}
    for path in DEMO.glob("iemocap/Session*/dialog/EmoEvaluation/*.txt"):
        found |= dict(re.findall(r"^\[[\d.]+ - [\d.]+\]\t(\S+)\t(\w{3})\t\[", path.read_text(), re.M))
    return found


def test_everything_together_is_at_most_12_mb():
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) <= 12e6


# ---- TED ----


def test_ted_has_the_kaggle_columns_and_sizes(talks):
    assert (DEMO / "ted/ted_main.csv").read_text().splitlines()[0] == KAGGLE_COLUMNS
    assert len(talks) == len({talk["url"] for talk in talks}) == 48
    per_speaker = Counter(talk["main_speaker"] for talk in talks)
    assert len(per_speaker) >= 32
    assert set(per_speaker.values()) == {1, 2}


def test_ted_columns_are_as_in_the_real_table(talks, shared):
    real = read_csv(shared / "kaggle/ted_main.csv")
    assert list(talks[0]) == list(real[0])
    for name in ("ratings", "tags", "related_talks"):
        ours, theirs = ast.literal_eval(talks[0][name]), ast.literal_eval(real[0][name])
        assert type(ours) is type(theirs)
        if name != "tags":
            assert list(ours[0]) == list(theirs[0])
    assert {r["name"]: r["id"] for r in ast.literal_eval(real[0]["ratings"])} == RATING_IDS


def test_ted_ratings_are_14_counted_names(talks):
    for talk in talks:
        ratings = ast.literal_eval(talk["ratings"])
        assert {rating["name"]: rating["id"] for rating in ratings} == RATING_IDS
        assert all(rating["count"] > 0 for rating in ratings)


def test_ted_urls_end_in_a_line_break(talks):
    assert all(re.fullmatch(r"http://www\.ted\.com/talks/\w+\n", talk["url"]) for talk in talks)


def test_one_talk_has_no_transcript_and_one_transcript_is_there_twice(talks):
    urls = [row["url"] for row in read_csv(DEMO / "ted/transcripts.csv")]
    known = [talk["url"] for talk in talks]
    assert set(urls) < set(known)
    assert (len(known) - len(set(urls)), len(urls) - len(set(urls))) == (1, 1)
    assert urls != [url for url in known if url in urls]  # joining by position would mix talks up


def test_one_talk_is_gone_from_the_site_and_a_few_are_films_only(talks):
    slugs = {talk["url"].strip().rsplit("/", 1)[1] for talk in talks}
    kept = {path.stem: path.suffix for path in (DEMO / "ted/site").iterdir()}
    assert len(slugs - kept.keys()) == 1
    assert kept.keys() < slugs
    assert Counter(kept.values()) == {".mp3": 44, ".mp4": 3}


# ---- IEMOCAP ----


def test_iemocap_has_ten_speakers_and_enough_utterances_in_the_four_classes(utterances):
    four = {name: emotion for name, emotion in utterances.items() if emotion in ("ang", "hap", "exc", "sad", "neu")}
    assert len(four) >= 160
    assert {"xxx", "fru"} <= set(utterances.values())
    assert len({(name[:5], name.split("_")[-1][0]) for name in four}) == 10
    happy = Counter("hap" if emotion == "exc" else emotion for emotion in four.values())
    assert min(happy.values()) >= 30


def test_iemocap_has_the_four_files_of_each_utterance(utterances):
    for utterance in utterances:
        dialogue = utterance.rsplit("_", 1)[0]
        session = DEMO / "iemocap" / f"Session{int(utterance[3:5])}"
        assert (session / "sentences/wav" / dialogue / f"{utterance}.wav").is_file()
        assert (session / "dialog/avi/DivX" / f"{dialogue}.avi").is_file()
        transcription = (session / "dialog/transcriptions" / f"{dialogue}.txt").read_text()
        assert re.search(rf"^{utterance} \[\d{{3}}\.\d{{4}}-\d{{3}}\.\d{{4}}\]: \w", transcription, re.M)


def test_transcriptions_also_hold_lines_that_no_evaluation_has(utterances):
    lines = "".join(path.read_text() for path in DEMO.glob("iemocap/Session*/dialog/transcriptions/*.txt")).splitlines()
    others = [line for line in lines if line.split(" ")[0] not in utterances]
    assert any(re.match(r"Ses\d\d[FM]_\w+_[FM]XX\d \[", line) for line in others)
    assert any(re.match(r"[FM]: \[", line) for line in others)


def test_films_are_divx_with_sound():
    assert len(FILMS) == 10
    seen = what_ffmpeg_sees(FILMS[0])
    assert "Input #0, avi" in seen
    assert "Video: mpeg4" in seen and "DX50" in seen
    assert "Audio: mp3" in seen


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_default_detector_finds_the_face_in_each_half(side):
    import cv2

    cv2.setNumThreads(1)
    detector = cv2.CascadeClassifier(f"{cv2.data.haarcascades}haarcascade_frontalface_default.xml")
    found = []
    for film in FILMS:
        for _, picture in frames(film, 0.25, side=side):
            grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            found.append(len(detector.detectMultiScale(grey, 1.1, 3, minSize=(30, 30))) > 0)
    assert len(found) > 100
    assert sum(found) / len(found) >= 0.98


# ---- MIT Interview ----


def test_mit_has_24_participants_before_and_after_with_gaps_in_the_numbers():
    codes = {path.stem for path in (DEMO / "mit/Audio").glob("*.wav")}
    numbers = sorted(int(code.strip("P")) for code in codes)
    assert codes == {f"{prefix}{number}" for number in set(numbers) for prefix in ("P", "PP")}
    assert len(codes) == 48
    assert max(numbers) > 24


def test_mit_scores_are_nine_raters_and_aggr_in_the_real_columns(shared):
    rows = read_csv(DEMO / "mit/Labels/turker_scores_full_interview.csv")
    real = read_csv(shared / "judgenet/data/mit_interview/turker_scores_full_interview.csv")
    assert list(rows[0]) == list(real[0])
    workers = [f"W{number:03d}" for number in range(1, 10)] + ["AGGR"]
    for start in range(0, len(rows), 10):
        assert [row["Worker"] for row in rows[start : start + 10]] == workers
        assert len({row["Participant"] for row in rows[start : start + 10]}) == 1
    assert len(rows) == 480
    assert all(1 <= float(row["Excited"]) <= 7 for row in rows)


def test_mit_tables_are_in_different_orders():
    with open(DEMO / "mit/Labels/interview_transcripts_by_turkers.csv", newline="") as file:
        transcripts = list(csv.reader(file))
    codes = [code for code, _ in transcripts]
    scored = [row["Participant"] for row in read_csv(DEMO / "mit/Labels/turker_scores_full_interview.csv")[::10]]
    assert codes == sorted(codes)
    assert set(codes) == set(scored) == {path.stem.lower() for path in (DEMO / "mit/Audio").glob("*.wav")}
    assert codes != scored
    for _, text in transcripts:
        turns = [turn.split(":")[0] for turn in text.split("|")]
        assert {"Interviewer", "Interviewee"} == set(turns)


# ---- sound ----


@pytest.mark.parametrize(
    ("pattern", "shortest_s", "longest_s"),
    [("ted/site/*", 5, 20), ("iemocap/Session1/sentences/wav/*/*.wav", 0.7, 6), ("mit/Audio/*.wav", 4, 16)],
)
def test_recordings_are_short_and_hold_speech(pattern, shortest_s, longest_s):
    for path in sorted(DEMO.glob(pattern))[::6]:
        assert shortest_s <= to_flac(path).duration_s <= longest_s, path


def test_the_readme_names_every_part():
    text = Path(DEMO.parent, "README.md").read_text()
    for name in ("make_demo.py", "make_texts.py", "make_faces.py", "site.py", "CC BY-NC-SA 4.0", "CC BY-NC-ND 4.0"):
        assert name in text
