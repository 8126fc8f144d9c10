"""Makes the embedded corpora: data/demo/ted, data/demo/iemocap and data/demo/mit, each in its original format.

What it makes is committed; run it only to change it. It needs espeak-ng (speech), ffmpeg (or imageio-ffmpeg), and

    pip install numpy==2.4.6 opencv-python-headless==4.14.0.94 scikit-image==0.26.0 matplotlib==3.11.2 imageio-ffmpeg
    python data/demo/make_demo.py

The seed fixes tables, texts and voices. Label and cues are correlated with noise: a sentence or a way of speaking comes
from the right class often, not always, so that no model reaches 100 %, and words and voice differ in worth: IEMOCAP's
emotion shows in the words more than in the voice, a TED talk's rating likewise, MIT's excitement in the voice.
"""

import argparse
import csv
import math
import random
import shutil
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from make_faces import HEIGHT, LISTENING, RATE_HZ, WIDTH, Actor, Manner, between
from make_texts import (
    ANSWER,
    EMOTION,
    FIRST_NAMES,
    LAST_NAMES,
    OCCUPATIONS,
    QUESTIONS,
    TALK,
    TITLE,
    Bank,
    opened,
    words,
)

SAMPLE_RATE_HZ = 16_000
SOUND = ("-c:a", "libmp3lame", "-b:a", "24k", "-fflags", "+bitexact", "-flags:a", "+bitexact", "-map_metadata", "-1")


# ---- speech ----


@dataclass(frozen=True)
class Voice:
    """A speaker's own way of speaking; what an emotion does to it comes on top."""

    name: str
    pitch: float  # espeak-ng's scale, 0..99
    speed: float  # words a minute
    gain: float

    @classmethod
    def draw(cls, female: bool, number: int, rng: random.Random) -> "Voice":
        accent = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029")[number % 5]
        variant = f"f{1 + number % 5}" if female else f"m{1 + number % 7}"
        return cls(
            f"{accent}+{variant}", 50 + rng.gauss(0, 4), 165 + rng.gauss(0, 8), 0.30 * math.exp(rng.gauss(0, 0.1))
        )

    def say(self, text: str, pitch: float = 0, speed: float = 1, gain: float = 1) -> np.ndarray:
        """float32 (samples,) at 16 kHz; pitch is added, speed and gain are factors."""
        with tempfile.TemporaryDirectory() as folder:
            spoken = Path(folder, "spoken.wav")
            subprocess.run(
                [
                    *("espeak-ng", "-v", self.name, "-w", str(spoken)),
                    *("-p", str(round(min(99, max(0, self.pitch + pitch))))),
                    *("-s", str(round(min(300, max(80, self.speed * speed))))),
                    text,
                ],
                check=True,
            )
            raw = ffmpeg("-i", spoken, "-ar", SAMPLE_RATE_HZ, "-ac", 1, "-f", "f32le", "-", capture=True)
        sound = np.frombuffer(raw, dtype=np.float32)
        loud = np.flatnonzero(np.abs(sound) > 1e-3)
        return np.clip(sound[loud[0] : loud[-1] + 800] * self.gain * gain / 0.2, -0.99, 0.99)


def ffmpeg(*arguments: object, capture: bool = False, given: bytes | None = None) -> bytes:
    """Run ffmpeg; its standard output if asked for."""
    program = shutil.which("ffmpeg")
    if program is None:
        import imageio_ffmpeg

        program = imageio_ffmpeg.get_ffmpeg_exe()
    command = [program, "-hide_banner", "-loglevel", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, input=given, stdout=subprocess.PIPE if capture else None).stdout


def save_sound(sound: np.ndarray, path: Path, *options: object) -> None:
    """float32 samples to a file of the kind that its name says: MP3, or WAV with MP3 inside (the size of an MP3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = sound.astype("<f4").tobytes()
    ffmpeg("-f", "f32le", "-ar", SAMPLE_RATE_HZ, "-ac", 1, "-i", "-", *SOUND, *options, path, given=raw)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# ---- TED ----

RATINGS = {  # name: (id on the site, share of the positive or of the negative counts)
    "Funny": (7, 0.09), "Beautiful": (1, 0.10), "Ingenious": (9, 0.09), "Courageous": (3, 0.09),
    "Longwinded": (11, 0.24), "Confusing": (2, 0.15), "Informative": (8, 0.17), "Fascinating": (22, 0.14),
    "Unconvincing": (21, 0.26), "Persuasive": (24, 0.10), "Jaw-dropping": (23, 0.06), "OK": (25, 0.25),
    "Obnoxious": (26, 0.10), "Inspiring": (10, 0.16),
}  # fmt: skip
NEGATIVE = {"Longwinded", "Confusing", "Unconvincing", "OK", "Obnoxious"}
COLUMNS = words(
    "comments description duration event film_date languages main_speaker name num_speaker published_date ratings "
    "related_talks speaker_occupation tags title url views"
)
TALKS, SPEAKERS = 48, 36


def make_ted(folder: Path) -> None:
    """ted_main.csv, transcripts.csv, and what the site holds: SLUG.mp3 (audio) or SLUG.mp4 (video only)."""
    rng = random.Random(2023)
    banks = {kind: Bank(templates, rng) for kind, templates in TALK.items()}
    titles = Bank(TITLE, rng)
    people = [f"{first} {last}" for first, last in zip(FIRST_NAMES, rng.sample(LAST_NAMES, SPEAKERS), strict=True)]
    voices = [Voice.draw(female=number % 2 == 0, number=number, rng=rng) for number in range(SPEAKERS)]
    appeal = [rng.gauss(0, 0.6) for _ in people]  # a good speaker's second talk is good as well, more often than not
    speakers = [*range(SPEAKERS), *rng.sample(range(SPEAKERS), TALKS - SPEAKERS)]
    rng.shuffle(speakers)
    without_transcript, gone, video_only = 17, 30, {5, 26, 41}
    rows, transcripts = [], []
    for number, speaker in enumerate(speakers):
        quality = appeal[speaker] + rng.gauss(0, 0.8)
        vivid = sigmoid(2.2 * quality + rng.gauss(0, 0.5))
        sentences = [banks["vivid" if rng.random() < vivid else "dry"].sentence() for _ in range(rng.randint(12, 18))]
        title, person = titles.sentence(), people[speaker]
        slug = "_".join(f"{person} {title}".lower().split())
        energy = 0.7 * quality + rng.gauss(0, 0.7)
        spoken = voices[speaker].say(
            " ".join(sentences[:3]), 7 * energy, math.exp(0.08 * energy), math.exp(0.35 * energy)
        )
        if number in video_only:
            look = ("-f", "lavfi", "-i", f"color=c=0x{rng.randrange(0x303030, 0xC0C0C0):06x}:s=128x72:r=5", "-shortest")
            (folder / "site").mkdir(parents=True, exist_ok=True)
            encoding = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-threads", 1, "-c:a", "aac", "-b:a", "24k")
            bare = ("-fflags", "+bitexact", "-flags", "+bitexact", "-movflags", "+faststart")
            source = ("-f", "f32le", "-ar", SAMPLE_RATE_HZ, "-ac", 1, "-i", "-")
            ffmpeg(
                *source, *look, *encoding, *bare, folder / "site" / f"{slug}.mp4", given=spoken.astype("<f4").tobytes()
            )
        elif number != gone:
            save_sound(spoken, folder / "site" / f"{slug}.mp3")
        filmed = 1_140_825_600 + number * 5_184_000
        url = f"http://www.ted.com/talks/{slug}\n"
        rows.append(
            {
                "comments": rng.randint(20, 900),
                "description": f"{person} speaks on a question that everyone has met: {title[0].lower()}{title[1:]}.",
                "duration": round(len(spoken) / SAMPLE_RATE_HZ),
                "event": f"TED{2006 + number // 4}",
                "film_date": filmed,
                "languages": rng.randint(10, 60),
                "main_speaker": person,
                "name": f"{person}: {title}",
                "num_speaker": 1,
                "published_date": filmed + rng.randint(30, 200) * 86_400,
                "ratings": repr(count_ratings(quality, rng)),
                "speaker_occupation": rng.choice(OCCUPATIONS),
                "tags": repr(sorted(rng.sample(["culture", "science", "design", "global issues", "music", "TEDx"], 3))),
                "title": title,
                "url": url,
                "views": round(math.exp(rng.gauss(13 + 0.4 * quality, 0.6))),
            }
        )
        if number != without_transcript:
            laughter = "(Laughter)" if quality > 0.8 else "(Applause)"
            # Kaggle's paragraphs follow one another without a space.
            paragraphs = [" ".join(sentences[at : at + 4]) for at in range(0, len(sentences), 4)]
            transcripts.append({"transcript": "".join([*paragraphs[:-1], laughter, paragraphs[-1]]), "url": url})
    for row in rows:
        related = [other for other in rng.sample(rows, 3) if other is not row]
        row["related_talks"] = repr(
            [
                {
                    "id": 1000 + rows.index(other),
                    "hero": "http://pe.tedcdn.com/images/ted/hero.jpg",
                    "speaker": other["main_speaker"],
                    "title": other["title"],
                    "duration": other["duration"],
                    "slug": other["url"].strip().rsplit("/", 1)[1],
                    "viewed_count": other["views"],
                }
                for other in related
            ]
        )
    rng.shuffle(transcripts)  # Kaggle's two tables are in different orders, and some transcripts are there twice
    transcripts.append(transcripts[3])
    save_table(folder / "ted_main.csv", COLUMNS, rows)
    save_table(folder / "transcripts.csv", ["transcript", "url"], transcripts)


def count_ratings(quality: float, rng: random.Random) -> list[dict]:
    """The site's 14 counted names, most counted first; negative / positive falls with the quality."""
    total = math.exp(rng.gauss(7, 0.7))
    negative = sigmoid(-1.9 - 0.9 * quality + rng.gauss(0, 0.3))
    counts = []
    for name, (number, share) in RATINGS.items():
        of_kind = negative if name in NEGATIVE else 1 - negative
        count = round(total * of_kind * share * math.exp(rng.gauss(0, 0.25)))
        counts.append({"id": number, "name": name, "count": max(1, count)})
    return sorted(counts, key=lambda rating: -rating["count"])


# ---- IEMOCAP ----

DELIVERY = {  # pitch (added), speed and gain (factors)
    "ang": (9, 1.16, 1.75),
    "hap": (14, 1.10, 1.20),
    "sad": (-13, 0.80, 0.50),
    "neu": (0, 1.0, 0.90),
}
AFFECT = {  # valence, activation, dominance, 1..5
    "ang": (1.9, 3.8, 3.9), "hap": (4.2, 3.5, 3.2), "exc": (4.1, 3.9, 3.4), "sad": (2.0, 2.0, 2.4),
    "neu": (3.0, 2.5, 2.8), "fru": (2.3, 3.0, 3.2), "xxx": (2.8, 2.8, 2.9),
}  # fmt: skip
FULL_NAME = {
    "ang": "Anger", "hap": "Happiness", "exc": "Excited", "sad": "Sadness", "neu": "Neutral state",
    "fru": "Frustration", "xxx": "Other",
}  # fmt: skip
# One dialogue's emotions: 18 in the four classes, 4 in others.
EMOTIONS = ["ang"] * 4 + ["hap"] * 2 + ["exc"] * 3 + ["sad"] * 4 + ["neu"] * 5 + ["fru"] * 2 + ["xxx"] * 2


def make_iemocap(folder: Path) -> None:
    """Session1..5 with two dialogues each, as the release lays them out."""
    rng = random.Random(2008)
    banks = {emotion: Bank(templates, rng) for emotion, templates in EMOTION.items()}
    for session in range(1, 6):
        cast = {
            sex: (Voice.draw(sex == "F", session, rng), Actor(2 * session + (sex == "F"), rng)) for sex in ("F", "M")
        }
        # The dialogue's name says who wears the markers; that actor is in the left half of the picture.
        for lead, scene in (("F", "impro01"), ("M", "script01_1")):
            make_dialogue(folder / f"Session{session}", f"Ses{session:02d}{lead}_{scene}", lead, cast, banks, rng)


def make_dialogue(
    folder: Path, name: str, lead: str, cast: dict[str, tuple[Voice, Actor]], banks: dict[str, Bank], rng: random.Random
) -> None:
    """One dialogue: its utterances' WAV files, its film, its transcription, its evaluation."""
    emotions = rng.sample(EMOTIONS, len(EMOTIONS))
    evaluation = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    transcription, turns = [], []
    track, counts, time_s = [silence(0.6)], {"F": 0, "M": 0}, 0.6
    for number, emotion in enumerate(emotions):
        sex = lead if number % 2 == 0 else "FM".replace(lead, "")
        utterance = f"{name}_{sex}{counts[sex]:03d}"
        counts[sex] += 1
        feeling = "hap" if emotion == "exc" else emotion
        text = opened(banks[feeling if rng.random() < 0.78 else rng.choice(list(EMOTION))].sentence(), rng)
        voiced = feeling if feeling in DELIVERY and rng.random() < 0.85 else rng.choice(list(DELIVERY))
        pitch, speed, gain = DELIVERY[voiced]
        spoken = cast[sex][0].say(
            text, pitch + rng.gauss(0, 8), speed * math.exp(rng.gauss(0, 0.09)), gain * math.exp(rng.gauss(0, 0.28))
        )
        save_sound(spoken, folder / "sentences" / "wav" / name / f"{utterance}.wav")
        start_s, end_s = time_s, time_s + len(spoken) / SAMPLE_RATE_HZ
        pause_s = rng.uniform(0.15, 0.4)
        time_s = end_s + pause_s
        track += [spoken, silence(pause_s)]
        shown = feeling if rng.random() < 0.85 else rng.choice(list(DELIVERY))
        turns.append((start_s, end_s, sex, Manner.draw(shown, rng)))
        transcription.append(f"{utterance} [{start_s:08.4f}-{end_s:08.4f}]: {text}")
        evaluation += evaluate(utterance, start_s, end_s, emotion, rng)
        if number % 9 == 4:  # breath and noise between turns: transcribed, in no evaluation, with no sound of its own
            transcription.append(f"{name}_{sex}XX{number // 9} [{end_s:08.4f}-{time_s:08.4f}]: [BREATHING]")
        if number == 11:
            transcription.append(f"{sex}: [LAUGHTER]")
    for kind, lines in (("transcriptions", transcription), ("EmoEvaluation", evaluation)):
        path = folder / "dialog" / kind / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    film(folder / "dialog" / "avi" / "DivX" / f"{name}.avi", lead, cast, turns, np.concatenate(track))


def evaluate(utterance: str, start_s: float, end_s: float, emotion: str, rng: random.Random) -> list[str]:
    """An utterance's paragraph: the consensus, then who saw what. No consensus (xxx): three see three things."""
    scores = [[min(5, max(1, round(mean + rng.gauss(0, 0.6)))) for mean in AFFECT[emotion]] for _ in range(3)]
    means = ", ".join(f"{sum(column) / 3:.4f}" for column in zip(*scores, strict=True))
    seen = [FULL_NAME[emotion]] * 3
    if emotion == "xxx":
        seen = rng.sample(["Anger", "Neutral state", "Frustration", "Sadness", "Excited"], 3)
    elif rng.random() < 0.4:
        seen[2] = rng.choice(["Frustration", "Neutral state", "Surprise"])
    lines = [f"[{start_s:.4f} - {end_s:.4f}]\t{utterance}\t{emotion}\t[{means}]"]
    lines += [f"C-E{number}:\t{name};\t()" for number, name in zip((2, 3, 4), seen, strict=True)]
    lines += [f"A-E{n}:\tval {v}; act {a}; dom  {d};\t()" for n, (v, a, d) in zip((2, 3, 4), scores, strict=True)]
    return [*lines, ""]


def film(
    path: Path,
    lead: str,
    cast: dict[str, tuple[Voice, Actor]],
    turns: list[tuple[float, float, str, Manner]],
    track: np.ndarray,
) -> None:
    """DivX (MPEG-4 part 2) in AVI, both actors side by side, the lead left; with sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    manners = dict.fromkeys(cast, LISTENING)
    pictures = []
    for number in range(math.ceil(len(track) / SAMPLE_RATE_HZ * RATE_HZ)):
        time_s = number / RATE_HZ
        halves = {}
        for sex, (_, actor) in cast.items():
            now = next((m for start, end, who, m in turns if who == sex and start <= time_s < end), LISTENING)
            manners[sex] = between(manners[sex], now, 0.7)
            halves[sex] = actor.picture(time_s, manners[sex])
        pictures.append(np.concatenate([halves.pop(lead), *halves.values()], axis=1))
    with tempfile.TemporaryDirectory() as folder:
        sound = Path(folder, "track.wav")
        with wave.open(str(sound), "wb") as out:
            out.setnchannels(1)
            out.setsampwidth(2)
            out.setframerate(SAMPLE_RATE_HZ)
            out.writeframes((track * 32767).astype("<i2").tobytes())
        raw = ("-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{2 * WIDTH}x{HEIGHT}", "-r", RATE_HZ, "-i", "-")
        divx = ("-c:v", "mpeg4", "-vtag", "DX50", "-q:v", 11, "-g", 40, "-threads", 1)
        heard = ("-c:a", "libmp3lame", "-b:a", "16k", "-fflags", "+bitexact", "-flags", "+bitexact")
        ffmpeg(*raw, "-i", sound, *divx, *heard, path, given=np.stack(pictures).tobytes())


# ---- MIT Interview ----

SCORES = words(
    "Overall RecommendHiring Colleague Engaged Excited EyeContact Smiled SpeakingRate NoFillers Friendly Paused "
    "EngagingTone StructuredAnswers Calm NotStressed Focused Authentic NotAwkward"
)
BOUND = {"Excited": 1.0, "Engaged": 0.8, "EngagingTone": 0.8, "Friendly": 0.6, "Smiled": 0.6, "SpeakingRate": 0.5}
PARTICIPANTS = 24


def make_mit(folder: Path) -> None:
    """Audio/P1.wav and PP1.wav (before and after), Labels/ with the turkers' transcripts and scores.

    As in the release: numbers with gaps, the scores in numeric order, the transcripts in the alphabetical order of the
    participant code (p1, p10, p11, ...), so that joining by position mixes people up.
    """
    rng = random.Random(2015)
    banks = {kind: Bank(templates, rng) for kind, templates in ANSWER.items()}
    numbers = [1, *sorted(rng.sample(range(3, 80), PARTICIPANTS - 1))]
    voices = {number: Voice.draw(rng.random() < 0.5, place, rng) for place, number in enumerate(numbers)}
    liveliness = {number: rng.gauss(0, 0.75) for number in numbers}
    interviewer = Voice("en-us+f2", 50, 165, 0.2)
    transcripts, scores = {}, []
    for prefix in ("p", "pp"):
        for number in numbers:
            code = f"{prefix}{number}"
            excitement = liveliness[number] + rng.gauss(0.35 if prefix == "pp" else -0.15, 0.65)
            turns, heard = [], []
            for place, question in enumerate(QUESTIONS[: rng.choice([3, 4])]):
                answer = " ".join(
                    banks["keen" if rng.random() < sigmoid(0.6 * excitement) else "flat"].sentence() for _ in range(2)
                )
                turns += [f"Interviewer: {question}", f"Interviewee: {answer}"]
                if place == 0:
                    energy = excitement + rng.gauss(0, 0.5)
                    way = 8 * energy, math.exp(0.11 * energy), math.exp(0.4 * energy)
                    heard += [interviewer.say(question), silence(0.3), voices[number].say(answer, *way)]
            turns.append("Interviewer: Thank you.")
            transcripts[code] = "|".join(turns)
            save_sound(np.concatenate(heard), folder / "Audio" / f"{code.upper()}.wav")
            scores += rate(code, excitement, rng)
    labels = folder / "Labels"
    labels.mkdir(parents=True, exist_ok=True)
    with open(labels / "interview_transcripts_by_turkers.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([code, transcripts[code]] for code in sorted(transcripts))
    save_table(labels / "turker_scores_full_interview.csv", ["Participant", "Worker", *SCORES, "Total"], scores)


def rate(code: str, excitement: float, rng: random.Random) -> list[dict]:
    """Nine raters' scores, 1..7, and AGGR: their mean with weights for how far a rater can be trusted."""
    general = rng.gauss(0, 0.8)
    rows, weights = [], [rng.uniform(0.5, 1.5) for _ in range(9)]
    for rater in range(9):
        bias = rng.gauss(0, 0.5)
        row: dict = {"Participant": code, "Worker": f"W{rater + 1:03d}"}
        for name in SCORES:
            bound = BOUND.get(name, 0.2)
            score = 4.4 + 1.1 * (bound * excitement + (1 - bound) * general) + bias + rng.gauss(0, 0.8)
            row[name] = float(min(7, max(1, round(score))))
        rows.append(row | {"Total": sum(row[name] for name in SCORES)})
    total = sum(weights)
    mean = {
        name: round(sum(w * row[name] for w, row in zip(weights, rows, strict=True)) / total, 11)
        for name in [*SCORES, "Total"]
    }
    return [*rows, {"Participant": code, "Worker": "AGGR", **mean}]


def save_table(path: Path, columns: list[str], rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


MAKERS = {"ted": make_ted, "iemocap": make_iemocap, "mit": make_mit}
# What a maker owns in its folder: removed before it runs, so that nothing of an older version stays.
MADE = {"ted": ["ted_main.csv", "transcripts.csv", "site"], "iemocap": [f"Session{n}" for n in range(1, 6)]}
MADE["mit"] = ["Audio", "Labels"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the embedded corpora again.")
    parser.add_argument("corpora", nargs="*", choices=[*MAKERS, []], help="all three when left out")
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parent, help="where to make them")
    arguments = parser.parse_args()
    for corpus in arguments.corpora or MAKERS:
        folder = arguments.folder / corpus
        for name in MADE[corpus]:
            old = folder / name
            if old.is_dir():
                shutil.rmtree(old)
            old.unlink(missing_ok=True)
        MAKERS[corpus](folder)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{corpus}: {size / 1e6:.2f} MB in {folder}")


if __name__ == "__main__":
    main()
