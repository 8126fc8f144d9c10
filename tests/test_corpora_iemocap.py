"""IEMOCAP: from the release's tree to a catalog. The lines below have the release's own form."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpora import iemocap
from pipeline.errors import UserError

EVALUATION = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral;\t()
C-F1:\tNeutral; Anger;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M000\texc\t[4.0000, 3.5000, 2.5000]
C-E2:\tExcited;\t()

[12.0000 - 13.0000]\tSes01F_impro01_F001\tfru\t[2.5000, 3.0000, 3.0000]
[14.8872 - 18.0175]\tSes01F_impro01_F002\txxx\t[2.5000, 2.5000, 2.5000]
[19.0000 - 20.5000]\tSes01F_impro01_M001\tang\t[1.5000, 4.0000, 4.5000]
[21.0000 - 22.5000]\tSes01F_impro01_M002\thap\t[4.5000, 4.0000, 3.5000]
"""
TRANSCRIPTION = """Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
M: [BREATHING]
Ses01F_impro01_MXX0 [007.0000-007.5000]: Sure.
Ses01F_impro01_M000 [010.0100-011.3925]: Do you have your forms?  [LAUGHTER]
Ses01F_impro01_M001 [019.0000-020.5000]: Time: it's 3:30.
"""
OTHER = "[0.5000 - 1.5000]\tSes02M_script01_1b_M000\tsad\t[2.0000, 2.0000, 2.0000]\n"


def release(root, evaluations=None, transcriptions=None):
    """Two sessions of the release: texts as given, recordings and videos empty (a catalog does not open them)."""
    evaluations = evaluations or {"Ses01F_impro01": EVALUATION, "Ses02M_script01_1b": OTHER}
    transcriptions = transcriptions or {"Ses01F_impro01": TRANSCRIPTION}
    for dialogue, text in evaluations.items():
        session = root / f"Session{int(dialogue[3:5])}"
        for folder in ("EmoEvaluation/Categorical", "transcriptions", "avi/DivX"):
            (session / "dialog" / folder).mkdir(parents=True, exist_ok=True)
        (session / "dialog" / "EmoEvaluation" / f"{dialogue}.txt").write_text(text)
        (session / "dialog" / "EmoEvaluation" / f"._{dialogue}.txt").write_bytes(b"\x00\x05\x16\x07[1.0 - 2.0]")
        (session / "dialog" / "EmoEvaluation" / "Categorical" / f"{dialogue}_e1_cat.txt").write_text("[broken")
        if dialogue in transcriptions:
            (session / "dialog" / "transcriptions" / f"{dialogue}.txt").write_text(transcriptions[dialogue])
        for name in (f"{dialogue}.avi", f"._{dialogue}.avi"):
            (session / "dialog" / "avi" / "DivX" / name).touch()
        wavs = session / "sentences" / "wav" / dialogue
        wavs.mkdir(parents=True, exist_ok=True)
        for utterance in re.findall(r"Ses\w+", text):
            (wavs / f"{utterance}.wav").touch()
            (wavs / f"._{utterance}.wav").touch()
    return {"root": str(root)}


def rows_of(made):
    return {row["item_id"]: row for row in made.table.to_pylist()}


def test_an_utterance_becomes_a_row_with_all_that_the_release_says_of_it(tmp_path):
    made = iemocap.prepare(release(tmp_path))
    session = tmp_path / "Session1"
    assert rows_of(made)["Ses01F_impro01_M000"] == {
        "item_id": "Ses01F_impro01_M000",
        "group": "M01",
        "text": "Do you have your forms?  [LAUGHTER]",
        "target": 2.0,
        "label": "happy",
        "source": str(session / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_M000.wav"),
        "start_s": None,
        "end_s": None,
        "session": 1,
        "dialogue": "Ses01F_impro01",
        "speaker": "M01",
        "emotion": "exc",
        "valence": 4.0,
        "activation": 3.5,
        "dominance": 2.5,
        "video": str(session / "dialog" / "avi" / "DivX" / "Ses01F_impro01.avi"),
        "video_start_s": 10.01,
        "video_end_s": 11.3925,
        "side": "right",
    }
    assert (made.task, made.classes) == ("classification", ["angry", "sad", "happy", "neutral"])


def test_happiness_and_excitement_are_one_class_and_the_index_is_the_published_one(tmp_path):
    rows = rows_of(iemocap.prepare(release(tmp_path)))
    assert {row["emotion"]: (row["label"], row["target"]) for row in rows.values()} == {
        "ang": ("angry", 0.0),
        "sad": ("sad", 1.0),
        "exc": ("happy", 2.0),
        "hap": ("happy", 2.0),
        "neu": ("neutral", 3.0),
    }


def test_other_emotions_are_left_out_by_name_and_counted_by_reason(tmp_path):
    made = iemocap.prepare(release(tmp_path))
    assert made.left_out == {
        "Ses01F_impro01_F001": "consensus: frustration (fru)",
        "Ses01F_impro01_F002": "consensus: no majority among the annotators (xxx)",
    }
    assert "1 left out: consensus: frustration (fru)" in made.notes


def test_words_that_hold_a_colon_are_whole_and_missing_ones_are_null(tmp_path):
    made = iemocap.prepare(release(tmp_path))
    assert rows_of(made)["Ses01F_impro01_M001"]["text"] == "Time: it's 3:30."
    assert rows_of(made)["Ses01F_impro01_M002"]["text"] is None
    assert "2 utterances have no transcription: Ses01F_impro01_M002, Ses02M_script01_1b_M000" in made.notes


def test_resource_files_of_macos_and_folders_of_single_annotators_are_ignored(tmp_path):
    given_settings = release(tmp_path)
    listed = iemocap.inputs(given_settings) + iemocap.raw_files(given_settings)
    assert len(listed) == 2 + 1 + 2 + 7
    assert not [path for path in listed if "/._" in path or "Categorical" in path]
    assert listed == sorted(iemocap.inputs(given_settings)) + iemocap.raw_files(given_settings)


@pytest.mark.parametrize(
    ("dialogue", "gender", "side"),
    [
        ("Ses01F_impro01", "F", "left"),
        ("Ses01F_impro01", "M", "right"),
        ("Ses05M_script01_1b", "M", "left"),
        ("Ses05M_script01_1b", "F", "right"),
    ],
)
def test_the_actor_with_the_markers_is_on_the_left_unless_the_config_says_otherwise(dialogue, gender, side):
    assert iemocap.side_of(dialogue, gender) == side
    other = {"left": "right", "right": "left"}[side]
    assert iemocap.side_of(dialogue, gender, {dialogue: {gender: other}}) == other
    assert iemocap.side_of(dialogue, gender, {"Ses03F_impro01": {gender: other}}) == side


def test_sides_set_by_hand_reach_the_catalog(tmp_path):
    sides = {"Ses01F_impro01": {"F": "right", "M": "left"}}
    made = iemocap.prepare(release(tmp_path) | {"sides": sides})
    found = {row["item_id"]: row["side"] for row in made.table.to_pylist()}
    assert found["Ses01F_impro01_F000"] == "right"
    assert found["Ses01F_impro01_M000"] == "left"
    assert found["Ses02M_script01_1b_M000"] == "left"


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({"Ses01F_impro99": {"F": "left"}}, "names Ses01F_impro99: no such dialogue"),
        ({"Ses01F_impro01": {"F": "middle"}}, "write it as {Ses01F_impro01: {F: left, M: right}}"),
        ({"Ses01F_impro01": "left"}, "write it as"),
        ("left", "write it as"),
    ],
)
def test_sides_that_make_no_sense_are_refused(tmp_path, sides, message):
    with pytest.raises(UserError, match=re.escape(message)):
        iemocap.prepare(release(tmp_path) | {"sides": sides})


def test_what_the_release_lacks_is_null_and_noted(tmp_path):
    given_settings = release(tmp_path)
    (tmp_path / "Session1/dialog/avi/DivX/Ses01F_impro01.avi").unlink()
    (tmp_path / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav").unlink()
    made = iemocap.prepare(given_settings)
    row = rows_of(made)["Ses01F_impro01_M000"]
    assert [row[name] for name in ("source", "video", "video_start_s", "video_end_s", "side")] == [None] * 5
    assert "1 utterances have no recording: Ses01F_impro01_M000" in made.notes
    assert any(note.startswith("Session3, Session4, Session5 not in ") for note in made.notes)
    assert iemocap.modalities(given_settings) == ("lexical", "acoustic", "visual")
    (tmp_path / "Session2/dialog/avi/DivX/Ses02M_script01_1b.avi").unlink()
    assert iemocap.modalities(given_settings) == ("lexical", "acoustic")


def test_a_line_that_is_cut_off_names_the_file_and_the_line(tmp_path):
    given_settings = release(tmp_path, {"Ses01F_impro01": EVALUATION[: EVALUATION.rindex("[4.5")]})
    with pytest.raises(UserError, match=r"Ses01F_impro01\.txt, line 15 is cut off .* from the release again"):
        iemocap.prepare(given_settings)


def test_an_utterance_that_stands_twice_names_both_lines(tmp_path):
    line = EVALUATION.splitlines()[2]
    with pytest.raises(UserError, match=r"line 2: item_id 'Ses01F_impro01_F000' stands already in .*line 1"):
        iemocap.prepare(release(tmp_path, {"Ses01F_impro01": f"{line}\n{line}\n"}))


@pytest.mark.parametrize("name", ["../../x", "Ses01X_impro01_F000", "impro01_F000"])
def test_a_name_that_is_none_of_an_utterance_is_refused(tmp_path, name):
    text = f"[1.0 - 2.0]\t{name}\tneu\t[2.5, 2.5, 2.5]\n"
    with pytest.raises(UserError, match=r"Ses01F_impro01\.txt, line 1"):
        iemocap.prepare(release(tmp_path, {"Ses01F_impro01": text}))


def test_a_missing_release_says_where_to_ask_for_it(tmp_path):
    with pytest.raises(UserError, match=r"no folder: ask for the release at https://sail.usc.edu/iemocap/"):
        iemocap.inputs({"root": str(tmp_path / "absent")})
    with pytest.raises(UserError, match=r"holds no SessionN/dialog/EmoEvaluation: ask for the release"):
        iemocap.prepare({"root": str(tmp_path)})


@settings(deadline=None, max_examples=10)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_lines_leaves_no_trace(tmp_path_factory, draw: random.Random):
    root = tmp_path_factory.mktemp("release")
    before = iemocap.prepare(release(root))
    blocks = [line for line in EVALUATION.splitlines() if line.startswith("[")]
    words = TRANSCRIPTION.splitlines()
    draw.shuffle(blocks)
    draw.shuffle(words)
    evaluations = {"Ses02M_script01_1b": OTHER, "Ses01F_impro01": "\n".join(blocks)}
    after = iemocap.prepare(release(root, evaluations, {"Ses01F_impro01": "\n".join(words)}))
    assert after.table.equals(before.table)


def test_names_speakers_and_class_indices_agree_with_the_published_list(shared):
    """Improvisation 3 is a happy one and 6 a sad one: the label that is frequent in it shows its class."""
    lines = (shared / "judgenet/data/iemocap/dataset_balanced.csv").read_text().splitlines()[1:]
    published = {name: (speaker, int(label)) for _, name, speaker, *_, label in (line.split(",") for line in lines)}
    assert len(published) == 1336
    for name, (speaker, _) in published.items():
        match = iemocap._UTTERANCE.fullmatch(name)
        assert f"{match[4]}{match[2]}" == speaker
    for scenario, label in (("impro03", "happy"), ("impro06", "sad"), ("impro05", "neutral"), ("script03", "angry")):
        labels = [label for name, (_, label) in published.items() if scenario in name]
        assert iemocap.CLASSES[max(set(labels), key=labels.count)] == label
