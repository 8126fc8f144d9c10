"""MIT Interview: from recordings and the workers' tables to a catalog."""

import csv
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpora import mit
from pipeline.errors import UserError

WORDS = st.text(st.characters(codec="ascii", exclude_characters="|:[]()\n\r"), min_size=1).map(str.strip).filter(bool)
SPOKEN = {"p1": "I lead", "p3": "I sing", "p10": "I run", "pp1": "I lead still", "pp3": "I sing more", "pp10": "I ran"}
WITH_QUOTES = {"p1": 'Well,"I lead', "p3": 'I sing, "alone', "p10": '"I run," I said', "pp1": 'she said ""go"" twice'}
SCORES = {"p1": [2, 4], "p3": [5, 5], "p10": [1, 2], "pp1": [6, 7], "pp3": [3, 4], "pp10": [4, 4]}


def release(root, spoken=None, scores=None, recorded=None, header=False, folder="Labels"):
    """The release as it is: scores in numeric order, transcripts in alphabetical order, unquoted, without a header."""
    spoken, scores = SPOKEN if spoken is None else spoken, SCORES if scores is None else scores
    (root / "Audio").mkdir(parents=True, exist_ok=True)
    for code in SPOKEN if recorded is None else recorded:
        (root / "Audio" / f"{code.upper()}.wav").touch()
    (root / folder).mkdir(exist_ok=True)
    lines = [f"{code},Interviewer: Hello.|Interviewee: {words}|Interviewer: Thanks." for code, words in spoken.items()]
    lines = ["Participant,Transcript"] * header + lines
    (root / folder / mit.TRANSCRIPTS).write_text("\n".join(lines) + "\n")
    with open(root / folder / mit.SCORES, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["Participant", "Worker", "Overall", "Excited"])
        for code, given_scores in scores.items():
            writer.writerows([code, f"W{n:03d}", 4.0, score] for n, score in enumerate(given_scores, start=1))
            writer.writerow([code, "AGGR", 4.0, 6.5])
    return {"root": str(root)}


def rows_of(made):
    return {row["item_id"]: row for row in made.table.to_pylist()}


def test_an_interview_becomes_a_row_and_the_aggregate_is_no_rater(tmp_path):
    made = mit.prepare(release(tmp_path))
    assert rows_of(made)["pp10"] == {
        "item_id": "pp10",
        "group": "p10",
        "text": "I ran",
        "target": 0.5,
        "label": None,
        "source": str(tmp_path / "Audio" / "PP10.wav"),
        "start_s": None,
        "end_s": None,
        "participant": "p10",
        "occasion": "after",
        "raters": 2,
        "excited_mean": 4.0,
        "excited_aggregate": 6.5,
    }
    assert (made.task, made.classes, made.left_out) == ("regression", None, {})
    assert mit.modalities({}) == ("lexical", "acoustic")


def test_both_interviews_of_a_participant_share_a_group(tmp_path):
    rows = rows_of(mit.prepare(release(tmp_path)))
    assert {item_id: row["group"] for item_id, row in rows.items()} == {
        "p1": "p1",
        "pp1": "p1",
        "p3": "p3",
        "pp3": "p3",
        "p10": "p10",
        "pp10": "p10",
    }


def test_the_target_covers_0_to_1_over_the_corpus(tmp_path):
    rows = rows_of(mit.prepare(release(tmp_path)))
    assert rows["p10"]["target"] == 0.0
    assert rows["pp1"]["target"] == 1.0
    assert rows["p3"]["target"] == pytest.approx((5 - 1.5) / (6.5 - 1.5))


def test_interviews_are_joined_by_code_whatever_the_order_and_case_of_the_files(tmp_path):
    before = mit.prepare(release(tmp_path / "a"))
    draw = random.Random(5)
    for attempt in range(5):
        spoken, scores = draw.sample(sorted(SPOKEN.items()), 6), draw.sample(sorted(SCORES.items()), 6)
        root = tmp_path / f"b{attempt}"
        made = mit.prepare(
            release(
                root,
                {code.upper(): words for code, words in spoken},
                {code: draw.sample(given_scores, 2) for code, given_scores in scores},
                [code for code, _ in spoken],
            )
        )
        after = [row | {"source": row["source"].replace(root.name, "a")} for row in made.table.to_pylist()]
        assert after == before.table.to_pylist()


def test_what_an_interview_lacks_is_named(tmp_path):
    spoken = {code: words for code, words in SPOKEN.items() if code != "pp3"} | {"p77": "I have no score"}
    scores = SCORES | {"p50": [3, 3]}
    made = mit.prepare(release(tmp_path, spoken, scores, recorded=["p1", "p3", "p10", "pp1", "pp3", "pp88"]))
    rows = rows_of(made)
    assert rows["pp3"]["text"] is None
    assert rows["pp10"]["source"] is None
    assert made.left_out == {
        "p77": "no score in turker_scores_full_interview.csv",
        "pp88": "no score in turker_scores_full_interview.csv",
        "p50": "neither recording nor transcript",
    }
    assert "1 interviews have no transcript: pp3" in made.notes
    assert "1 interviews have no recording: pp10" in made.notes
    assert "2 left out: no score in turker_scores_full_interview.csv" in made.notes


@pytest.mark.parametrize(("header", "folder"), [(True, "Labels"), (False, "labels_from_turkers"), (True, ".")])
def test_the_tables_may_have_a_header_and_lie_in_any_folder(tmp_path, header, folder):
    made = mit.prepare(release(tmp_path, header=header, folder=folder))
    assert {item_id: row["text"] for item_id, row in rows_of(made).items()} == SPOKEN


def test_a_quote_in_a_transcript_is_a_character_and_takes_no_other_interview_in(tmp_path):
    rows = rows_of(mit.prepare(release(tmp_path, SPOKEN | WITH_QUOTES)))
    assert {item_id: row["text"] for item_id, row in rows.items()} == SPOKEN | WITH_QUOTES


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_copy_with_quotes_around_its_fields_is_read_alike(tmp_path, quoting):
    given_settings, spoken = release(tmp_path), SPOKEN | WITH_QUOTES
    with open(tmp_path / "Labels" / mit.TRANSCRIPTS, "w", newline="") as file:
        writer = csv.writer(file, quoting=quoting)
        writer.writerows([code, f"Interviewer: Hi, there.|Interviewee: {words}"] for code, words in spoken.items())
    assert {item_id: row["text"] for item_id, row in rows_of(mit.prepare(given_settings)).items()} == spoken


@pytest.mark.parametrize(
    ("transcript", "words"),
    [
        ("Interviewer: How are you?|Interviewee: Good.|Interviewer: Well.", "Good."),
        ("Interviewer: Hi|Interveiwee: Good  how are you?|Interviewer: Fine", "Good  how are you?"),
        ("INTERVIEWEE : yes|interviewer: no", "yes"),
        (
            "Interviewee: I am in aerospace  and a  |Junior  uhm|Interviewer: Ok|and more",
            "I am in aerospace  and a Junior  uhm",
        ),
        ("Interviewee: I run.|[laughter]|(both laugh)|Interviewee: Yes.", "I run. Yes."),
        ("Interviewee: I (laughs) run|Interviewer: x", "I (laughs) run"),
        ("Interviewee: (slight laugh)|Interviewer: x", "(slight laugh)"),
        ("Interviewer: a||Interviewee:||Interviewer: b", ""),
        ("no speaker is named", ""),
        ("Interviewee: two things: one and two", "two things: one and two"),
        ("", ""),
    ],
)
def test_only_the_interviewee_is_heard(transcript, words):
    assert mit.interviewee_words(transcript) == words


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), WORDS, st.lists(WORDS, max_size=2))))
def test_each_part_goes_to_the_speaker_named_last(turns):
    parts, heard = [], []
    for is_interviewee, words, more in turns:
        parts += [f"{'Interviewee' if is_interviewee else 'Interviewer'}: {words}", *more]
        heard += [words, *more] if is_interviewee else []
    assert mit.interviewee_words("|".join(parts)) == " ".join(heard)


@settings(deadline=None)
@given(st.sampled_from(["p", "pp"]), st.integers(1, 10**6), st.integers(0, 3), st.booleans())
def test_a_code_is_the_same_in_any_case_and_with_leading_zeros(prefix, number, zeros, upper):
    name = f"{prefix}{'0' * zeros}{number}"
    assert mit.code_of(f" {name.upper() if upper else name} ") == f"{prefix}{number}"
    assert mit.participant_of(f"{prefix}{number}") == (f"p{number}", "after" if prefix == "pp" else "before")


@pytest.mark.parametrize("name", ["", "p", "p0", "ppp1", "q1", "p1a", "1", "p-1", "participant", "p1/../p2", "p１"])
def test_what_is_no_code_is_none(name):
    assert mit.code_of(name) is None


def test_numeric_order_counts_and_alphabetical_order_does_not():
    codes = ["pp10", "p10", "pp3", "p3", "p1", "pp1"]
    assert sorted(codes, key=mit.numeric_order) == ["p1", "p3", "p10", "pp1", "pp3", "pp10"]
    assert sorted(codes) == ["p1", "p10", "p3", "pp1", "pp10", "pp3"]


@settings(deadline=None)
@given(st.lists(st.floats(1, 7), min_size=2).filter(lambda values: min(values) < max(values)))
def test_scaling_keeps_the_order_and_fills_0_to_1(values):
    scaled = mit.unit_scale(values, "here")
    assert (min(scaled), max(scaled)) == (0.0, 1.0)
    ordered = [value for _, value in sorted(zip(values, scaled, strict=True))]
    assert ordered == sorted(ordered)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"p1": ["", 4]}, r"row 2: the score for Excited is ''; it is a number from 1 to 7"),
        ({"p1": [3, "nan"]}, r"row 3: the score for Excited is 'nan'"),
        ({"p1": [3, 8]}, r"row 3: the score for Excited is '8'"),
        ({"someone": [3, 4]}, r"row 2: 'someone' is no participant"),
        ({"p1": [3], "P1": [4]}, r"row 4: W001 scored p1 in row 2 already"),
        ({"p1": [3], "p3": [3]}, r"all 2 interviews have the same mean score \(3\.0\)"),
    ],
)
def test_scores_that_cannot_be_used_name_their_row(tmp_path, scores, message):
    with pytest.raises(UserError, match=message):
        mit.prepare(release(tmp_path, scores=scores))


def test_two_recordings_or_transcripts_of_one_interview_are_refused(tmp_path):
    given_settings = release(tmp_path / "a")
    (tmp_path / "a" / "Audio" / "p1.WAV").touch()
    with pytest.raises(UserError, match=r"are both the interview p1; remove or rename one"):
        mit.prepare(given_settings)
    with pytest.raises(UserError, match=r"row 7: a second transcript of p1"):
        mit.prepare(release(tmp_path / "b", spoken=SPOKEN | {"P1": "again"}))
    with pytest.raises(UserError, match=r"row 7 begins with 'Some text' and no participant"):
        mit.prepare(release(tmp_path / "c", spoken=SPOKEN | {"Some text": "x"}))


def test_a_missing_release_or_table_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"no folder: ask the authors"):
        mit.inputs({"root": str(tmp_path / "absent")})
    given_settings = release(tmp_path)
    assert [path.rpartition("/")[2] for path in mit.inputs(given_settings)] == [mit.SCORES, mit.TRANSCRIPTS]
    (tmp_path / "Labels" / mit.TRANSCRIPTS).unlink()
    with pytest.raises(UserError, match=r"holds no interview_transcripts_by_turkers\.csv"):
        mit.inputs(given_settings)


def test_resource_files_and_other_sounds_are_no_recordings(tmp_path):
    given_settings = release(tmp_path)
    for name in ("._P1.wav", "readme.txt", "noise.wav", "P5.mp3"):
        (tmp_path / "Audio" / name).touch()
    assert len(mit.raw_files(given_settings)) == 6


def test_the_real_scores_are_means_of_nine_raters(tmp_path, shared):
    scores, aggregate = mit._scores(shared / "judgenet/data/mit_interview" / mit.SCORES)
    assert len(scores) == len(aggregate) == 138
    assert len({mit.participant_of(code)[0] for code in scores}) == 69
    assert sorted({len(given_scores) for given_scores in scores.values()}) == [8, 9]
    means = [statistics.fmean(scores[code]) for code in sorted(scores)]
    assert statistics.correlation(means, [aggregate[code] for code in sorted(scores)]) > 0.98
