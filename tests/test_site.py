"""The stand-in for www.ted.com: what it answers, and how it runs a command."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.demo_site import MP3_TALK, MP4_TALK, SITE_PROGRAM, gone_talk, serving, site, talk_url


@pytest.fixture(scope="module")
def browser():
    with serving(site.Site()) as proxy:
        yield urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))


def page_data(browser, slug):
    page = browser.open(talk_url(slug)).read().decode()
    (data,) = re.findall(r'<script id="__NEXT_DATA__" type="application/json">(.*?)</script>', page)
    return json.loads(data)["props"]["pageProps"]["videoData"]


def run_site(*command, **options):
    return subprocess.Popen([sys.executable, str(SITE_PROGRAM), "--", *command], **options)


def test_a_talk_page_names_its_sound_and_the_sound_is_there(browser):
    data = page_data(browser, MP3_TALK)
    assert data["presenterDisplayName"] == "Tara Abbott"
    assert browser.open(data["audioDownload"]).headers["Content-Type"] == "audio/mpeg"


def test_a_talk_may_have_a_film_only(browser):
    data = page_data(browser, MP4_TALK)
    assert data["audioDownload"] is None
    (film,) = data["videoPlayerData"]["resources"]["h264"]
    assert browser.open(film["file"]).read()[4:8] == b"ftyp"


@pytest.mark.parametrize(
    ("url", "status"),
    [
        (talk_url("nobody_spoke_of_nothing"), 404),
        (talk_url(gone_talk()), 404),
        ("http://download.ted.com/talks/../ted_main.csv", 404),
        ("http://download.ted.com/talks/%2e%2e%2fted_main.csv", 404),
        ("http://example.org/talks/" + MP3_TALK, 403),
    ],
)
def test_everything_else_is_an_error(browser, url, status):
    with pytest.raises(urllib.error.HTTPError) as error:
        browser.open(url)
    assert error.value.code == status


def test_the_command_sees_the_site_and_its_exit_status_comes_back():
    script = (
        "import os, sys, urllib.request as r; proxy = os.environ['DEMO_SITE'];"
        "assert proxy.startswith('http://127.0.0.1:');"
        f"page = r.build_opener(r.ProxyHandler({{'http': proxy}})).open('{talk_url(MP3_TALK)}').read();"
        "sys.exit(7 if b'__NEXT_DATA__' in page else 1)"
    )
    assert run_site(sys.executable, "-c", script).wait(timeout=30) == 7


def test_a_command_that_dies_of_a_signal_ends_as_in_a_shell():
    assert run_site("sh", "-c", "kill -9 $$").wait(timeout=30) == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_command(number, tmp_path):
    ready = tmp_path / "ready"
    script = (
        "import pathlib, signal, sys, time;"
        f"signal.signal({int(number)}, lambda *_: sys.exit(33));"
        f"pathlib.Path({str(ready)!r}).touch(); time.sleep(30)"
    )
    process = run_site(sys.executable, "-c", script)
    deadline = time.monotonic() + 20
    while not ready.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, number)
    assert process.wait(timeout=20) == 33


def test_without_a_command_it_says_how_to_use_it():
    done = subprocess.run([sys.executable, str(SITE_PROGRAM)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage" in done.stderr
