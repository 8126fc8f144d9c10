"""The commands that the rules call: quick to start, one line for a user's mistake."""

import subprocess
import sys

import pyarrow as pa
import pytest

from pipeline import __main__ as commands
from pipeline import kept, steps, store
from tests.conftest import ROOT


def run(monkeypatch, capsys, *arguments):
    """Exit status and what the command printed, in this process."""
    monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
    status = commands.main()
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_the_workflow_and_describe_start_without_any_heavy_library():
    code = (
        "import sys; import pipeline.steps, pipeline.__main__, pipeline.config; "
        "print(*[name for name in ('torch', 'tensorflow', 'transformers', 'pandas', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_users_mistake_is_one_line(monkeypatch, capsys, tmp_path):
    status, _, errors = run(monkeypatch, capsys, "describe", tmp_path / "absent.parquet")
    assert status == 1
    assert errors.count("\n") == 1
    assert errors.startswith("error: ")
    assert "absent.parquet does not exist" in errors


def test_describe_prints_what_made_a_file(monkeypatch, capsys, tmp_path):
    path = tmp_path / "quality.parquet"
    made_by = store.provenance("quality", "ted", {"pooling": "mean"}, "c0de", items={"a": {}, "b": {}})
    table = pa.Table.from_pylist([{"item_id": "a", "status": "ok"}], schema=store.schema("quality"))
    store.write(path, table, "quality", made_by)
    status, shown, _ = run(monkeypatch, capsys, "describe", path)
    assert status == 0
    for text in ("1 rows", '"corpus": "ted"', '"pooling": "mean"', '"code": "c0de"', '"pyarrow": ', '"2 items"'):
        assert text in shown


@pytest.mark.parametrize("shard", ["3", "4/4", "-1/4", "a/b"])
def test_a_shard_that_cannot_be_is_refused(monkeypatch, capsys, shard):
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, "media", "ted", "--catalog", "c", "--output", "o", f"--shard={shard}")
    assert shard in capsys.readouterr().err


def test_settings_that_are_no_json_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, "catalog", "ted", "--output", "o", "--settings", "{shards: 1}")
    assert "not JSON" in capsys.readouterr().err


@pytest.mark.parametrize(("again", "following"), [(False, 2), (True, 3)])
def test_only_a_run_that_asks_for_it_is_followed_by_another_attempt(tmp_path, again, following):
    path = tmp_path / "media.parquet"
    assert steps.next_attempt(path) == 1
    made_by = {"attempt": 2, "again": again}
    store.write(path, pa.Table.from_pylist([], schema=store.schema("media")), "media", made_by)
    kept.keep(path)
    path.unlink()  # as Snakemake does where a job fails
    assert steps.next_attempt(path) == following


def test_the_state_of_raw_files_follows_their_bytes_and_names(tmp_path):
    (tmp_path / "mine.csv").write_text("item_id,label,source\na,x,a.wav\nb,y,b.wav\n")
    for name in "ab":
        (tmp_path / f"{name}.wav").write_bytes(b"RIFF")
    settings = {"table": str(tmp_path / "mine.csv"), "task": "classification"}
    before = steps.state_of_raw_files("mine", settings)
    assert steps.state_of_raw_files("mine", settings) == before
    (tmp_path / "a.wav").write_bytes(b"RIFFRIFF")
    assert steps.state_of_raw_files("mine", settings) != before
