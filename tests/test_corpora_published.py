"""The authors' feature files: what they hold, what is left out of them, and that they are joined by key."""

import random
import shutil

import numpy as np
import pytest
import torch

from pipeline.corpora import mit, published
from pipeline.errors import UserError

torch.set_num_threads(1)
HEADER = ",".join(published.TED_COLUMNS)
INTERVIEWS = ["p1", "p3", "p10", "pp1", "pp3", "pp10"]  # in numeric order


def line(slug, number, positive=10, negative=1):
    files = f"ted/features/audio/audio_{number}.pt,ted/features/lexical/lexical_{number}.pt"
    return f"https://www.ted.com/talks/{slug},{files},{positive},{negative}"


def ted_checkout(root, lines, numbers):
    """A checkout whose vectors of number n hold n, as tensors that want a gradient and have a batch dimension."""
    ted = root / "data" / "ted"
    for name, width in (("audio", 4), ("lexical", 6)):
        (ted / "features" / name).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            tensor = torch.full((1, width) if name == "lexical" else (width,), float(number), requires_grad=True)
            torch.save(tensor, ted / "features" / name / f"{name}_{number}.pt")
    (ted / "dataset.csv").write_text("\n".join([HEADER, *lines]))
    return {"judgenet": str(root)}


def mit_checkout(root, codes=INTERVIEWS):
    """A checkout of six interviews; every value tells whose it is: row n of INTERVIEWS holds n + 1."""
    folder = root / "data" / "mit_interview"
    (folder / "features").mkdir(parents=True, exist_ok=True)
    value = {code: float(number) for number, code in enumerate(INTERVIEWS, start=1)}
    alphabetical = [value[code] for code in sorted(INTERVIEWS)]
    torch.save(torch.tensor(alphabetical), folder / "features" / "Excited.pt")
    torch.save(torch.tensor(alphabetical)[:, None].repeat(1, 6), folder / "features" / "lexical.pt")
    torch.save(torch.tensor(list(value.values()))[:, None].repeat(1, 4), folder / "features" / "audio.pt")
    (folder / mit.SCORES).write_text("Participant,Worker,Excited\n" + "".join(f"{code},W001,4\n" for code in codes))
    return {"judgenet": str(root)}


@pytest.fixture(scope="module")
def real(shared):
    """Both corpora as published."""
    given_settings = {"judgenet": str(shared / "judgenet"), "metadata": str(shared / "kaggle" / "ted_main.csv")}
    return {corpus: published.read(corpus, given_settings) for corpus in published.CORPORA}


def test_a_talk_keeps_its_vectors_whatever_the_order_of_the_rows(tmp_path):
    lines = [line(f"t{n}", n, positive=10 + n) for n in range(8)]
    lines += [line("t2", 12), line("t5", 11, 99), line("t5", 10, 98)]
    given_settings = ted_checkout(tmp_path, lines, range(13))
    first = published.read("ted", given_settings)
    assert first.catalog.table.num_rows == 8
    for item_id, vector in first.features["acoustic"].items():
        assert vector.dtype == np.float32
        assert vector.tolist() == [float(item_id[1:])] * 4
    for _ in range(4):
        random.Random(1).shuffle(lines)
        again = published.read("ted", ted_checkout(tmp_path, lines, []))
        assert again.catalog.table.equals(first.catalog.table)
        for modality, found in first.features.items():
            assert again.features[modality].keys() == found.keys()
            assert all((again.features[modality][item_id] == vector).all() for item_id, vector in found.items())


def test_what_is_truncated_repeated_or_missing_is_left_out_and_named(tmp_path):
    lines = [
        line("a", 0),
        line("b", 1)[:-40],
        "",
        line("b", 1),
        line("a", 3),
        line("c", 7),
        line("d", 2)[: -len("10,1")],
        line("e", 2, 0, 0),
        "no talk,x,y,1,2",
        line("f", 3, 1, 2).replace("ted/features/audio", "../../elsewhere"),
    ]
    read = published.read("ted", ted_checkout(tmp_path, lines, range(4)))
    assert read.catalog.table["item_id"].to_pylist() == ["a", "b"]
    assert {key: reason.split(":")[0] for key, reason in read.left_out.items()} == {
        "dataset.csv line 3": "the row is truncated",
        "dataset.csv line 6": "a again, line 2 is kept",
        "dataset.csv line 8": "the row is truncated",
        "dataset.csv line 9": "the talk has no ratings",
        "dataset.csv line 10": "url 'no talk' is no page of a talk",
        "dataset.csv line 11": "the row is truncated",
        "c": "no feature file ted/features/audio/audio_7.pt",
    }
    assert (
        "3 truncated rows (lines 3, 8, 11) and 2 repeated talks (b: once in a truncated row) left out: "
        "3 talks remain of 9 rows" in read.catalog.notes
    )
    assert "no whole row of d, f" in read.catalog.notes
    assert "1 talks left out: their feature file is missing (c)" in read.catalog.notes


def test_speakers_group_the_talks_where_the_config_names_them(tmp_path):
    given_settings = ted_checkout(tmp_path, [line("a", 0), line("b", 1), line("c", 2)], range(3))
    alone = published.read("ted", given_settings)
    assert alone.catalog.table["group"].to_pylist() == ["a", "b", "c"]
    assert any(note.startswith("no speakers: each talk is its own group") for note in alone.catalog.notes)
    metadata = tmp_path / "ted_main.csv"
    metadata.write_text(
        'url,main_speaker\n"https://www.ted.com/talks/a\n",Ann  Lee\n"https://www.ted.com/talks/b\n",Ann Lee \n'
    )
    grouped = published.read("ted", given_settings | {"metadata": str(metadata)})
    assert grouped.catalog.table["group"].to_pylist() == ["Ann Lee", "Ann Lee", "c"]
    assert any(note.startswith("1 talks are not in") for note in grouped.catalog.notes)
    assert published.inputs("ted", given_settings | {"metadata": str(metadata)})[1] == str(metadata)


def test_interviews_are_aligned_by_code_though_the_tensors_have_two_orders(tmp_path):
    draw = random.Random(2)
    for _ in range(4):
        read = published.read("mit", mit_checkout(tmp_path, draw.sample(INTERVIEWS, 6)))
        rows = {row["item_id"]: row for row in read.catalog.table.to_pylist()}
        for number, code in enumerate(INTERVIEWS, start=1):
            assert rows[code]["excited"] == number
            assert rows[code]["target"] == pytest.approx((number - 1) / 5)
            assert rows[code]["group"] == f"p{code.lstrip('p')}"
            assert read.features["lexical"][code].tolist() == [number] * 6
            assert read.features["acoustic"][code].tolist() == [number] * 4


def test_nothing_in_a_feature_file_is_executed(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (shutil.rmtree, (str(tmp_path / "victim"),))

    (tmp_path / "victim").mkdir()
    given_settings = ted_checkout(tmp_path, [line("a", 0), line("b", 1)], range(2))
    torch.save(Harmful(), tmp_path / "data/ted/features/audio/audio_0.pt")
    with pytest.raises(UserError, match=r"audio_0\.pt is no tensor that can be read .* clone"):
        published.read("ted", given_settings)
    assert (tmp_path / "victim").is_dir()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"audio_0\.pt is no tensor that can be read"),
        (b"half a file", r"audio_0\.pt is no tensor that can be read"),
        (torch.zeros(3, 4), r"audio_0\.pt has the shape \(3, 4\)"),
        (torch.full((4,), float("nan")), r"audio_0\.pt has the shape \(4,\), or values that are no numbers"),
        (torch.zeros(5), r"the acoustic vectors differ in width"),
        ({"a": 1}, r"audio_0\.pt is no tensor that can be read"),
    ],
)
def test_a_broken_feature_file_is_named(tmp_path, content, message):
    given_settings = ted_checkout(tmp_path, [line("a", 0), line("b", 1)], range(2))
    file = tmp_path / "data/ted/features/audio/audio_0.pt"
    file.write_bytes(content) if isinstance(content, bytes) else torch.save(content, file)
    with pytest.raises(UserError, match=message):
        published.read("ted", given_settings)


def test_a_checkout_that_is_none_says_what_to_clone(tmp_path):
    with pytest.raises(UserError, match=r"the config names no JudgeNet checkout: clone https://github.com"):
        published.read("ted", {})
    with pytest.raises(UserError, match=r"data/ted is no folder: clone"):
        published.read("ted", {"judgenet": str(tmp_path)})
    with pytest.raises(UserError, match=r"published no features of 'iemocap', only of ted and mit"):
        published.read("iemocap", {"judgenet": str(tmp_path)})
    given_settings = mit_checkout(tmp_path)
    (tmp_path / "data/mit_interview/features/audio.pt").unlink()
    with pytest.raises(UserError, match=r"audio\.pt is no file: clone"):
        published.read("mit", given_settings)
    with pytest.raises(UserError, match=r"Excited\.pt has 6 rows for 5 interviews|has 6 rows, .* names 5 interviews"):
        published.read("mit", mit_checkout(tmp_path, INTERVIEWS[:5]))


def test_the_published_talks_are_2444_after_2_truncated_rows_and_20_repeated_talks(real):
    table = real["ted"].catalog.table
    assert table.num_rows == 2444
    assert real["ted"].catalog.notes[1].startswith("2 truncated rows (lines 1456, 2165) and 20 repeated talks")
    reasons = [reason for key, reason in real["ted"].left_out.items() if key.startswith("dataset.csv line ")]
    assert sum("truncated" in reason for reason in reasons) == 2
    assert sum(" again, line " in reason for reason in reasons) == 19  # the 20th repeats a truncated row
    assert len(reasons) == len(real["ted"].left_out)
    assert table["label"].to_pylist().count("top") == 1222
    assert len(set(table["group"].to_pylist())) == 2073
    widths = {name: {len(vector) for vector in found.values()} for name, found in real["ted"].features.items()}
    assert widths == {"lexical": {768}, "acoustic": {128}}
    assert all(found.keys() == set(table["item_id"].to_pylist()) for found in real["ted"].features.values())


def test_the_published_interviews_are_138_of_69_participants(real):
    table = real["mit"].catalog.table
    assert table.num_rows == 138
    assert len(set(table["group"].to_pylist())) == 69
    assert "138 interviews of 69 participants, aligned by code" in real["mit"].catalog.notes
    targets = table["target"].to_pylist()
    assert (min(targets), max(targets)) == (0.0, 1.0)


def test_the_labels_are_those_of_the_raters_only_in_the_order_that_is_read_here(real, shared):
    scores, _ = mit._scores(shared / "judgenet/data/mit_interview" / mit.SCORES)
    means = {code: np.mean(given) for code, given in scores.items()}
    excited = {row["item_id"]: row["excited"] for row in real["mit"].catalog.table.to_pylist()}
    aligned = np.corrcoef([(means[code], excited[code]) for code in means], rowvar=False)[0, 1]
    assert aligned > 0.95
    numeric = sorted(means, key=mit.numeric_order)
    as_it_lies = np.corrcoef([means[code] for code in numeric], [excited[code] for code in sorted(excited)])[0, 1]
    assert as_it_lies < 0.3


def test_the_aligned_voices_predict_excitement_and_the_published_order_does_not(real, shared):
    from sklearn.linear_model import Ridge
    from sklearn.metrics import r2_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table = real["mit"].catalog.table
    codes, targets = table["item_id"].to_pylist(), table["target"].to_numpy()

    def pooled_r2(voices):
        folds = GroupKFold(10, shuffle=True, random_state=0)
        model = make_pipeline(StandardScaler(), Ridge(30))
        return r2_score(targets, cross_val_predict(model, voices, targets, groups=table["group"].to_pylist(), cv=folds))

    assert codes == sorted(codes)  # the order of the published labels
    aligned = pooled_r2(np.stack([real["mit"].features["acoustic"][code] for code in codes]))
    audio = torch.load(shared / "judgenet/data/mit_interview/features/audio.pt", weights_only=True)
    as_it_lies = pooled_r2(audio.numpy())
    print(f"pooled R2, ten grouped folds: aligned {aligned:.3f}, as published {as_it_lies:.3f}")
    assert aligned >= 0.35
    assert as_it_lies < 0
