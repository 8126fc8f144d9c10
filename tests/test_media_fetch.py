"""Downloads through yt-dlp itself from the embedded TED site, in good and in bad weather."""

import socket
import threading
import time
from http import HTTPStatus

import pytest

from pipeline.errors import UserError
from pipeline.media import fetch
from tests.demo_site import DEMO, MP3_TALK, MP4_TALK, TroubledSite, gone_talk, serving, talk_url

RECORDINGS = DEMO / "ted" / "site"


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.01)


@pytest.fixture
def refusing_proxy():
    """An address where nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_talk_comes_as_its_sound(tmp_path):
    with serving(TroubledSite()) as proxy:
        path = fetch.fetch(talk_url(MP3_TALK), tmp_path, proxy)
    assert path.read_bytes() == (RECORDINGS / f"{MP3_TALK}.mp3").read_bytes()


def test_a_talk_without_a_sound_file_comes_as_its_film(tmp_path):
    with serving(TroubledSite()) as proxy:
        path = fetch.fetch(talk_url(MP4_TALK), tmp_path, proxy)
    assert path.read_bytes() == (RECORDINGS / f"{MP4_TALK}.mp4").read_bytes()


def test_the_line_break_at_the_end_of_kaggles_urls_does_no_harm(tmp_path):
    with serving(TroubledSite()) as proxy:
        assert fetch.fetch(talk_url(MP3_TALK) + "\n", tmp_path, proxy).is_file()


@pytest.mark.parametrize("status", [HTTPStatus.NOT_FOUND, HTTPStatus.GONE])
def test_what_the_site_does_not_have_is_gone_and_asked_for_once(tmp_path, status):
    site = TroubledSite(refusals=99, status=status)
    with serving(site) as proxy, pytest.raises(fetch.Gone, match=f"^HTTP {status.value}: "):
        fetch.fetch(talk_url(MP3_TALK), tmp_path, proxy)
    assert sum(site.requests.values()) == 1


def test_the_demos_missing_talk_is_gone(tmp_path):
    with serving(TroubledSite()) as proxy, pytest.raises(fetch.Gone, match=r"^HTTP 404: Not Found$"):
        fetch.fetch(talk_url(gone_talk()), tmp_path, proxy)


@pytest.mark.parametrize("status", [HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS])
def test_a_site_that_recovers_in_time_is_no_failure(tmp_path, status):
    site = TroubledSite(refusals=1, status=status)  # once for the page, once for the file
    with serving(site) as proxy:
        assert fetch.fetch(talk_url(MP3_TALK), tmp_path, proxy).is_file()
    assert site.requests[f"/talks/{MP3_TALK}"] == 3


def test_a_site_that_stays_down_is_a_passing_cause(tmp_path):
    site = TroubledSite(refusals=99)
    with serving(site) as proxy, pytest.raises(fetch.Passing, match=r"^HTTP 503: Service Unavailable$"):
        fetch.fetch(talk_url(MP3_TALK), tmp_path, proxy)
    assert sum(site.requests.values()) == fetch.TRIES


def test_a_refused_connection_is_a_passing_cause(tmp_path, refusing_proxy):
    with pytest.raises(fetch.Passing, match=r"(?i)refused") as error:
        fetch.fetch(talk_url(MP3_TALK), tmp_path, refusing_proxy)
    assert "report this issue" not in str(error.value)


def test_an_address_that_nothing_here_can_reach_is_gone(tmp_path):
    with serving(TroubledSite()) as proxy, pytest.raises(fetch.Gone, match="nosuchscheme"):
        fetch.fetch("nosuchscheme://www.ted.com/talks/x", tmp_path, proxy)


def test_stopping_ends_the_wait_for_the_next_try(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 60.0)
    stop = threading.Event()
    threading.Timer(1.0, stop.set).start()
    started = time.monotonic()
    with serving(TroubledSite(refusals=99)) as proxy, pytest.raises(fetch.Stopped):
        fetch.fetch(talk_url(MP3_TALK), tmp_path, proxy, stop)
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("source", "url"),
    [
        ("http://www.ted.com/talks/x", True),
        ("HTTPS://example.org/a.mp3", True),
        ("data/a.wav", False),
        ("/data/a.wav", False),
        ("C:/data/a.wav", False),
        ("a:b.wav", False),
    ],
)
def test_a_source_is_a_url_or_a_path(source, url):
    assert fetch.is_url(source) is url


def test_a_proxy_may_name_environment_variables(monkeypatch):
    monkeypatch.setenv("SOME_PROXY", "http://127.0.0.1:1")
    assert fetch.expand_proxy("${SOME_PROXY}") == "http://127.0.0.1:1"
    assert fetch.expand_proxy(None) is None
    with pytest.raises(UserError, match="NO_SUCH_PROXY"):
        fetch.expand_proxy("${NO_SUCH_PROXY}")
