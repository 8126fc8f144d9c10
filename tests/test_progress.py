"""Progress: a line in a log now and then, and one at the end; never a bar where nobody looks."""

from pipeline import progress as module
from pipeline.progress import progress


def test_it_yields_what_it_is_given_and_closes_with_one_line(capsys):
    assert list(progress([1, 2, 3], what="talks")) == [1, 2, 3]
    shown = capsys.readouterr().err
    assert shown.startswith("talks: 3 of 3")
    assert shown.count("\n") == 1


def test_long_work_says_how_far_it_is(capsys, monkeypatch):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    list(progress(iter("abcd"), total=4, what="talks"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("talks: 2 of 4")
    assert "left" in lines[0]


def test_nothing_to_do_says_nothing(capsys):
    assert list(progress([])) == []
    assert capsys.readouterr().err == ""


def test_an_unknown_total_is_counted(capsys):
    list(progress(iter("ab"), what="frames"))
    assert capsys.readouterr().err.startswith("frames: 2, ")
