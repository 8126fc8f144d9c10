"""The command `media`: what is computed, kept, tried again, and what a job leaves that was cut off."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from pipeline import kept, steps, store
from pipeline.errors import UserError
from pipeline.media import audio, collect, fetch, shard
from pipeline.media import ffmpeg as module
from tests.conftest import ROOT
from tests.demo_site import DEMO, TroubledSite, gone_talk, serving, site, talk_url

UTTERANCES = sorted((DEMO / "iemocap/Session1/sentences/wav/Ses01F_impro01").glob("*.wav"))[:5]
TALKS = sorted(path.stem for path in (DEMO / "ted/site").glob("*.mp3"))


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.01)


def catalog(folder, items, name="catalog.parquet"):
    """A catalog of {item_id: source} or {item_id: (source, start_s, end_s)}."""
    rows = [
        (item_id, *(source if isinstance(source, tuple) else (source, None, None))) for item_id, source in items.items()
    ]
    ids, sources, starts, ends = zip(*rows, strict=True)
    nothing = [None] * len(rows)
    columns = [ids, ids, nothing, [0.0] * len(rows), nothing, [s and str(s) for s in sources], starts, ends]
    path = folder / name
    store.write(path, pa.table(list(map(pa.array, columns)), store.schema("catalog")), "catalog", {})
    return path


def run(catalog_path, output, proxy=None, attempt=1, number=0, shards=1):
    """Run the command's function; the rows by item_id and the provenance."""
    shard.run("test", catalog_path, number, shards, {"proxy": proxy}, attempt, output)
    rows = store.read(output, "media").to_pylist()
    assert [row["item_id"] for row in rows] == sorted(row["item_id"] for row in rows)
    return {row["item_id"]: row for row in rows}, store.read_provenance(output)


@pytest.fixture
def recordings(tmp_path):
    """Copies of five utterances, {item_id: path}."""
    (tmp_path / "wav").mkdir()
    return {path.stem: shutil.copy2(path, tmp_path / "wav" / path.name) for path in UTTERANCES}


def test_local_recordings_become_flac(tmp_path, recordings):
    rows, made_by = run(catalog(tmp_path, recordings), tmp_path / "media.parquet")
    for item_id, path in recordings.items():
        assert rows[item_id]["status"] == "ok"
        assert rows[item_id]["audio"] == audio.to_flac(path).flac
        assert rows[item_id]["duration_s"] == pytest.approx(len(audio.decode_flac(rows[item_id]["audio"])) / 16_000)
    assert made_by["failed"] == 0
    assert set(made_by["items"]) == set(recordings)


def test_talks_are_fetched_and_one_is_gone(tmp_path):
    slugs = [*TALKS[:3], gone_talk()]
    with serving(site.Site()) as proxy:
        rows, made_by = run(catalog(tmp_path, {s: talk_url(s) for s in slugs}), tmp_path / "media.parquet", proxy)
    assert {rows[slug]["status"] for slug in TALKS[:3]} == {"ok"}
    gone = rows[gone_talk()]
    assert (gone["status"], gone["reason"], gone["audio"]) == ("unavailable", "HTTP 404: Not Found", None)
    assert made_by["failed"] == 0  # gone is gone: nothing to try again
    assert proxy not in json.dumps(made_by)
    assert not list(tmp_path.glob("*.partial"))


def test_one_broken_recording_costs_no_other(tmp_path, recordings, capsys):
    first, second, *_ = recordings
    (tmp_path / "wav" / f"{first}.wav").write_bytes(b"not a recording")
    (tmp_path / "wav" / f"{second}.wav").unlink()
    rows, made_by = run(catalog(tmp_path, recordings), tmp_path / "media.parquet")
    assert [row["status"] for row in rows.values()].count("ok") == 3
    assert rows[first]["status"] == rows[second]["status"] == "unavailable"
    assert "Invalid data found" in rows[first]["reason"]
    assert "no such file" in rows[second]["reason"]
    assert made_by["failed"] == 0
    assert "5 computed, 0 kept, 2 unavailable, 0 failed" in capsys.readouterr().err


def test_an_item_without_a_source_says_so(tmp_path):
    rows, _ = run(catalog(tmp_path, {"text_only": None}), tmp_path / "media.parquet")
    assert (rows["text_only"]["status"], rows["text_only"]["reason"]) == ("unavailable", "no source")


def test_items_can_be_cuts_of_one_recording(tmp_path):
    film = DEMO / "iemocap/Session1/dialog/avi/DivX/Ses01F_impro01.avi"
    rows, _ = run(catalog(tmp_path, {"a": (film, 1.0, 3.0), "b": (film, 3.0, 3.5)}), tmp_path / "media.parquet")
    assert rows["a"]["duration_s"] == pytest.approx(2.0, abs=0.001)
    assert rows["b"]["duration_s"] == pytest.approx(0.5, abs=0.001)
    assert rows["a"]["audio"] == audio.to_flac(film, 1.0, 3.0).flac


def test_the_order_of_the_catalog_changes_nothing(tmp_path, recordings):
    backwards = dict(reversed(recordings.items()))
    one, _ = run(catalog(tmp_path, recordings), tmp_path / "one.parquet")
    other, _ = run(catalog(tmp_path, backwards, "backwards.parquet"), tmp_path / "other.parquet")
    assert one == other


def test_shards_share_the_items_among_them(tmp_path, recordings):
    path = catalog(tmp_path, recordings)
    parts = [run(path, tmp_path / f"{number}.parquet", number=number, shards=3)[0] for number in range(3)]
    assert sorted(item_id for part in parts for item_id in part) == sorted(recordings)


def test_an_empty_shard_is_an_empty_file(tmp_path, recordings):
    path = catalog(tmp_path, dict([next(iter(recordings.items()))]))
    sizes = [len(run(path, tmp_path / f"{number}.parquet", number=number, shards=50)[0]) for number in range(50)]
    assert sorted(sizes) == [0] * 49 + [1]


def test_what_still_holds_is_kept_and_what_changed_is_made_anew(tmp_path, recordings, capsys):
    path, output = catalog(tmp_path, recordings), tmp_path / "media.parquet"
    before, _ = run(path, output)
    first, second, *_ = recordings
    shutil.copy(recordings[second], recordings[first])
    os.utime(recordings[first], (1, 1))
    capsys.readouterr()
    after, _ = run(path, output)
    assert "1 computed, 4 kept, 0 unavailable, 0 failed" in capsys.readouterr().err
    assert after[first]["audio"] == before[second]["audio"]
    assert {i: row for i, row in after.items() if i != first} == {i: row for i, row in before.items() if i != first}


def test_a_file_equals_a_fresh_one_whatever_was_kept(tmp_path, recordings):
    few = dict(list(recordings.items())[1:3])
    run(catalog(tmp_path, few), tmp_path / "media.parquet")
    grown, made_by = run(catalog(tmp_path, recordings), tmp_path / "media.parquet")
    fresh, fresh_made_by = run(catalog(tmp_path, recordings), tmp_path / "fresh.parquet")
    assert grown == fresh
    assert made_by == fresh_made_by
    assert (tmp_path / "media.parquet").read_bytes() == (tmp_path / "fresh.parquet").read_bytes()


def test_what_failed_is_tried_again_and_only_that(tmp_path, recordings, capsys):
    local = next(iter(recordings.items()))
    path = catalog(tmp_path, dict([local, ("talk", talk_url(TALKS[0])), ("lost", talk_url(gone_talk()))]))
    output = tmp_path / "media.parquet"
    down = TroubledSite()
    down.answer = lambda host, page: TroubledSite.answer(down, host, page) if gone_talk() in page else (503, "", b"")
    with serving(down) as proxy:
        rows, made_by = run(path, output, proxy)
    assert (rows["talk"]["status"], rows["talk"]["reason"]) == ("failed", "HTTP 503: Service Unavailable")
    assert rows["lost"]["status"] == "unavailable"
    assert (made_by["failed"], made_by["attempt"]) == (1, 1)
    assert steps.next_attempt(output) == 2
    capsys.readouterr()
    up = TroubledSite()
    with serving(up) as proxy:
        rows, made_by = run(path, output, proxy, attempt=2)
    assert rows["talk"]["status"] == "ok"
    assert (made_by["failed"], made_by["attempt"]) == (0, 2)
    assert steps.next_attempt(output) == 2
    assert "1 computed, 2 kept, 1 unavailable, 0 failed" in capsys.readouterr().err
    assert not any(gone_talk() in page for page in up.requests)


def test_what_fails_time_and_again_is_asked_for_three_times_and_then_left(tmp_path, recordings, capsys):
    output, talks = tmp_path / "media.parquet", {"talk": talk_url(TALKS[0])}
    path = catalog(tmp_path, talks)
    with serving(TroubledSite(refusals=99)) as proxy:
        for attempt in (1, 2, 3):
            assert steps.next_attempt(output) == attempt
            run(path, output, proxy, attempt)
        assert steps.next_attempt(output) == 3
        assert "the same have failed 3 times" in capsys.readouterr().err
        path = catalog(tmp_path, talks | {"other": talk_url(TALKS[1])})
        run(path, output, proxy, 3)
    assert steps.next_attempt(output) == 4  # another failure is another matter


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("kill -9 $$", "ended by SIGKILL"),
        ("echo 'Exiting normally, received signal 15.' >&2; exit 255", "ended by a signal"),
        ("echo 'x: No space left on device' >&2; exit 1", "no room"),
    ],
)
def test_a_fault_of_the_machine_is_recorded_of_no_item(tmp_path, recordings, monkeypatch, script, said):
    ffmpeg = tmp_path / "bin/ffmpeg"
    ffmpeg.parent.mkdir()
    ffmpeg.write_text(f"#!/bin/sh\n{script}\n")
    ffmpeg.chmod(0o755)
    monkeypatch.setattr(module, "executable", lambda: str(ffmpeg))
    with pytest.raises(UserError, match=said):
        run(catalog(tmp_path, recordings), tmp_path / "media.parquet")
    assert not list(tmp_path.glob("*.parquet.*")) and not (tmp_path / "media.parquet").exists()


def test_what_was_put_aside_and_is_damaged_is_fetched_again(tmp_path):
    item = collect.Item("talk", talk_url(TALKS[0]))
    aside = collect.Aside(tmp_path, "code")
    aside.put(item, audio.Audio(b"fLaC cut off", 1.0))
    assert aside.get(item) is None and not list(tmp_path.iterdir())


def test_rows_are_kept_where_the_file_itself_is_gone(tmp_path, recordings, capsys):
    path, output = catalog(tmp_path, recordings), tmp_path / "media.parquet"
    before, _ = run(path, output)
    output.unlink()  # as Snakemake does before each job
    after, _ = run(path, output)
    assert "0 computed, 5 kept" in capsys.readouterr().err and after == before


def test_a_damaged_file_is_made_anew(tmp_path, recordings, capsys):
    output = tmp_path / "media.parquet"
    kept.beside(output).write_bytes(b"PAR1 half a file")
    rows, _ = run(catalog(tmp_path, recordings), output)
    assert len(rows) == 5
    assert "5 computed, 0 kept" in capsys.readouterr().err


def test_readers_can_stream(tmp_path):
    talks = {slug: talk_url(slug) for slug in TALKS[:10]}
    with serving(site.Site()) as proxy:
        run(catalog(tmp_path, talks), tmp_path / "media.parquet", proxy)
    with store.open_file(tmp_path / "media.parquet", "media") as file:
        assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [8, 2]


def test_a_proxy_variable_that_is_not_set_is_named(tmp_path, recordings):
    with pytest.raises(UserError, match="NO_SUCH_SITE"):
        run(catalog(tmp_path, recordings), tmp_path / "media.parquet", "${NO_SUCH_SITE}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_is_cut_off_loses_nothing_that_it_had_fetched(tmp_path, number):
    output, slugs = tmp_path / "media.parquet", TALKS[:8]
    path = catalog(tmp_path, {slug: talk_url(slug) for slug in slugs})
    troubled = TroubledSite()
    troubled.paused_after = 3
    with serving(troubled) as proxy:
        command = ("media", "test", "--catalog", path, "--shard", "0/1", "--attempt", "1", "--output", output)
        settings = ("--settings", json.dumps({"proxy": proxy}))
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *map(str, command), *settings],
            cwd=ROOT,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # what runs the tests may ignore it
        )
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("media.parquet.partial/*.flac"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(number)
        time.sleep(0.5)
        troubled.resume.set()
        assert process.wait(timeout=60) != 0
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"catalog.parquet", "media.parquet.partial"}  # no half file, no temporary one
    aside = len(list(tmp_path.glob("media.parquet.partial/*.flac")))
    assert aside >= 3

    counting = TroubledSite()
    with serving(counting) as proxy:
        rows, _ = run(path, output, proxy)
    assert {row["status"] for row in rows.values()} == {"ok"}
    pages = {f"/talks/{slug}" for slug in slugs}
    assert sum(page in counting.requests for page in pages) == len(slugs) - aside
    assert not list(tmp_path.glob("*.partial"))
