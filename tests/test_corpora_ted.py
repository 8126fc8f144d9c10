"""TED: from the two Kaggle tables to a catalog."""

import csv
import random
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpora import ted
from pipeline.errors import UserError

NAMES = sorted(ted.POSITIVE | ted.NEGATIVE)
COUNTS = st.integers(0, 10**6)


def ratings(**counts):
    """The column `ratings` as Kaggle writes it, with all fourteen names."""
    by_name = {name: counts.get(name.replace("-", "_"), 0) for name in NAMES}
    return str([{"id": number, "name": name, "count": count} for number, (name, count) in enumerate(by_name.items())])


def talk(slug, speaker="A. Speaker", **counts):
    return {
        "comments": 1,
        "duration": 1164,
        "event": "TED2006",
        "main_speaker": speaker,
        "ratings": ratings(**(counts or {"Funny": 10, "OK": 1})),
        "title": f"About {slug}",
        "url": f"https://www.ted.com/talks/{slug}\n",
    }


def save(folder, talks, transcripts):
    for name, rows, columns in (
        ("ted_main.csv", talks, list(talk("x"))),
        ("transcripts.csv", transcripts, ["transcript", "url"]),
    ):
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
    return {"metadata": str(folder / "ted_main.csv"), "transcripts": str(folder / "transcripts.csv")}


def said(slug, text):
    return {"transcript": text, "url": f"https://www.ted.com/talks/{slug}\n"}


def rows_of(made):
    return {row["item_id"]: row for row in made.table.to_pylist()}


def test_a_talk_becomes_a_row_with_its_page_speaker_and_counts(tmp_path):
    talks = [talk("b_talk", "Ann  Lee ", Funny=30, Jaw_dropping=10, OK=4), talk("c_talk", "Bo", Funny=2, Obnoxious=1)]
    made = ted.prepare(save(tmp_path, talks, [said("b_talk", "Hello. (Laughter) Bye."), said("c_talk", "Hi")]))
    assert rows_of(made)["b_talk"] == {
        "item_id": "b_talk",
        "group": "Ann Lee",
        "text": "Hello. (Laughter) Bye.",
        "target": 0.0,
        "label": "top",
        "source": "https://www.ted.com/talks/b_talk",
        "start_s": None,
        "end_s": None,
        "title": "About b_talk",
        "speaker": "Ann Lee",
        "event": "TED2006",
        "duration_s": 1164.0,
        "positive": 40,
        "negative": 4,
        "score": 0.1,
    }
    assert (made.task, made.classes) == ("classification", ["top", "bottom"])
    assert ted.modalities({}) == ("lexical", "acoustic")
    assert ted.raw_files({}) == []


def test_a_talk_without_a_transcript_stays_with_a_null_text(tmp_path):
    made = ted.prepare(save(tmp_path, [talk("a"), talk("b")], [said("a", "words"), said("b", "")]))
    assert rows_of(made)["b"]["text"] is None
    assert "1 talks have no transcript" in made.notes


def test_a_repeated_talk_is_one_item_and_the_other_rows_are_named(tmp_path):
    talks = [talk("a"), talk("b"), talk("a")]
    made = ted.prepare(
        save(tmp_path, talks, [said("a", "short"), said("a", "the longer one"), said("z", "of no talk")])
    )
    assert list(rows_of(made)) == ["a", "b"]
    assert rows_of(made)["a"]["text"] == "the longer one"
    assert made.left_out == {"ted_main.csv row 4": "the talk a again, row 2 is kept"}
    assert "1 rows of ted_main.csv left out: the talk stands in another row" in made.notes
    assert "1 transcripts belong to no talk of ted_main.csv" in made.notes


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("url", "https://www.ted.com/playlists/1", "is no page of a talk"),
        ("url", "https://www.ted.com/talks/../admin", "is no page of a talk"),
        ("url", "https://www.ted.com/talks/-rf", "is no page of a talk"),
        ("url", "https://www.ted.com.evil.org/talks/a", "is no page of a talk"),
        ("ratings", "", "are no list of counted names"),
        ("ratings", "[{'id': 1", "are no list of counted names"),
        ("ratings", "__import__('os').system('true')", "are no list of counted names"),
        ("ratings", "7", "are no list of counted names"),
        ("ratings", "[{'name': 'Funny', 'count': -1}]", "'Funny' has the count -1"),
        ("ratings", "[{'name': 'Funny', 'count': '7'}]", "'Funny' has the count '7'"),
        ("ratings", "[{'name': 'Dull', 'count': 7}]", "'Dull' is neither a positive nor a negative one"),
        ("ratings", "[]", "the talk has no ratings"),
    ],
)
def test_a_row_that_cannot_be_read_is_left_out_and_named(tmp_path, column, value, reason):
    made = ted.prepare(save(tmp_path, [talk("a"), talk("b") | {column: value}, talk("c")], [said("a", "words")]))
    assert list(rows_of(made)) == ["a", "c"]
    assert reason in made.left_out["ted_main.csv row 3"]
    assert "1 rows of ted_main.csv left out: no usable url or ratings" in made.notes


@pytest.mark.parametrize(
    "url",
    [
        "http://www.ted.com/talks/a_b",
        "http://www.ted.com/talks/a_b\n",
        "http://www.ted.com/talks/a_b/",
        "http://www.ted.com/talks/a_b?language=en",
        "http://ted.com/talks/a_b#t-12",
    ],
)
def test_the_page_of_a_talk_is_written_in_one_form(url):
    assert ted.talk_of(url) == ("a_b", "http://www.ted.com/talks/a_b")


@settings(deadline=None, max_examples=50)
@given(st.lists(COUNTS, min_size=14, max_size=14).filter(any))
def test_every_rating_counts_once_and_the_score_is_their_quotient(counts):
    given_counts = dict(zip(NAMES, counts, strict=True))
    literal = str([{"id": 0, "name": name, "count": count} for name, count in given_counts.items()])
    positive, negative = ted.count_ratings(literal)
    assert positive + negative == sum(counts)
    assert positive == sum(count for name, count in given_counts.items() if name in ted.POSITIVE)
    score = ted.score(positive, negative)
    assert score == (float(Fraction(negative, positive)) if positive else float("inf"))


@settings(deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z]{1,3}", fullmatch=True), st.sampled_from([0.0, 0.1, 0.2, float("inf")])))
def test_the_halves_are_balanced_and_no_talk_at_the_bottom_has_a_lower_score_than_one_at_the_top(scores):
    halves = ted.median_halves(scores)
    top = [item_id for item_id in scores if halves[item_id] == 0]
    assert len(scores) <= 2 * len(top) <= len(scores) + 1
    bottom = scores.keys() - set(top)
    if bottom:
        assert max(scores[item_id] for item_id in top) <= min(scores[item_id] for item_id in bottom)
    assert halves == ted.median_halves(dict(reversed(scores.items())))


def test_the_order_of_the_files_leaves_no_trace(tmp_path):
    draw = random.Random(3)
    talks = [talk(f"t{n}", f"S{n % 4}", Funny=draw.randrange(1, 4), OK=draw.randrange(4)) for n in range(20)]
    talks += [talk("t3", "S3", Funny=500, OK=1), talk("t5", "S1", Funny=500, OK=2), talk("t5", "S2", Funny=500, OK=2)]
    transcripts = [said(f"t{n}", f"words of {n}") for n in range(15)] + [said("t2", "other words of 2")]
    first = ted.prepare(save(tmp_path, talks, transcripts))
    for _ in range(5):
        draw.shuffle(talks)
        draw.shuffle(transcripts)
        assert ted.prepare(save(tmp_path, talks, transcripts)).table.equals(first.table)


def test_a_missing_file_says_where_to_get_it_and_which_key_names_it(tmp_path):
    given_settings = save(tmp_path, [talk("a")], [])
    (tmp_path / "transcripts.csv").unlink()
    with pytest.raises(UserError, match=r"transcripts\.csv is no file: download .*kaggle.* corpora\.ted\.transcripts"):
        ted.inputs(given_settings)
    with pytest.raises(UserError, match=r"set corpora\.ted\.metadata"):
        ted.inputs({"transcripts": "x.csv"})


def test_a_table_of_something_else_is_refused(tmp_path):
    given_settings = save(tmp_path, [], [])
    with pytest.raises(UserError, match=r"ted_main\.csv holds no usable item"):
        ted.prepare(given_settings)
    (tmp_path / "ted_main.csv").write_text("url,views\nx,1\n")
    with pytest.raises(UserError, match=r"ted_main\.csv has no column 'ratings'"):
        ted.prepare(given_settings)


def test_the_real_table_is_read_in_seconds(tmp_path, shared):
    metadata = shared / "kaggle" / "ted_main.csv"
    slugs = sorted(ted.speakers(metadata))
    given_settings = save(tmp_path, [], [said(slug, f"words of {slug}") for slug in slugs[:2464]])
    started = time.process_time()
    made = ted.prepare(given_settings | {"metadata": str(metadata)})
    assert time.process_time() - started < 5
    assert made.table.num_rows == 2550
    assert made.table["label"].to_pylist().count("top") == 1275
    assert made.table["text"].null_count == 86
    assert len(set(made.table["group"].to_pylist())) == 2156
    assert made.left_out == {}
    assert rows_of(made)["ken_robinson_says_schools_kill_creativity"]["positive"] == 91538
