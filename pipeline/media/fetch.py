"""A URL in, a local media file out, through yt-dlp, the sound alone where a site offers it.

What goes wrong is told apart: gone for good, or a passing cause, which is tried again at once and on the next run.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

TRIES = 3
FIRST_WAIT_S = 1.0  # doubled after each try
TIMEOUT_S = 30.0
GONE_STATUS = frozenset({404, 410, 451})

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# yt-dlp's "ERROR: [TedTalk] some_talk: Unable to ... (caused by <...>); please report this issue on ...".
_AROUND_THE_REASON = re.compile(
    r"^(ERROR: )?(\[[^\]]+\] )?([\w-]+: )?|\s*\(caused by .*$|; please report this issue.*$", re.S
)
_FOR_NOW = re.compile(r"rate.?limit|try again|too many requests|not a (ro)?bot|captcha|being blocked", re.IGNORECASE)


class Gone(Exception):
    """The site does not have it, or not for us; asking again is no use. The text is the reason."""


class Passing(Exception):
    """It did not work this time: no connection, an overloaded site, a cut transfer. The text is the reason."""


class Stopped(Exception):
    """The caller asked to stop."""


def is_url(source: str) -> bool:
    """Whether a catalog's source is to be fetched; else it is the path of a local file."""
    return bool(_URL.match(source))


def expand_proxy(proxy: str | None) -> str | None:
    """The proxy of a config with its environment variables filled in.

    Raises:
        UserError: it names a variable that is not set.
    """
    if not proxy:
        return None
    expanded = os.path.expandvars(proxy)
    if "$" in expanded:
        raise UserError(f"proxy: {proxy}: the environment variable is not set; set it, or write the proxy's address")
    return expanded


def fetch(url: str, folder: Path, proxy: str | None = None, stop: threading.Event | None = None) -> Path:
    """Download what `url` stands for into `folder`, and return the file; any site that yt-dlp knows, any direct link.

    A second try goes on where the first broke off. `stop` ends waiting and downloading soon after it is set.

    Raises:
        Gone: HTTP 404, 410 or 451; removed, private, or nothing there that could be downloaded.
        Passing: anything else that went wrong, TRIES times.
        Stopped: `stop` was set.
    """
    stop = stop or threading.Event()
    wait_s = FIRST_WAIT_S
    for attempt in range(1, TRIES + 1):
        try:
            return _download(url, folder, proxy, stop)
        except Passing:
            if attempt == TRIES:
                raise
        if stop.wait(wait_s):
            raise Stopped
        wait_s *= 2
    raise AssertionError("unreachable")


class _Silence:
    """yt-dlp's messages come back as exceptions; the rest is for a person at a terminal."""

    def debug(self, message: str) -> None: ...

    info = warning = error = debug


def _download(url: str, folder: Path, proxy: str | None, stop: threading.Event) -> Path:
    import yt_dlp

    def check_stop(_: dict[str, Any]) -> None:
        if stop.is_set():
            raise Stopped

    options = {
        "format": "bestaudio/best",
        "outtmpl": {"default": str(folder / "recording.%(ext)s")},
        "proxy": proxy,
        "noplaylist": True,
        "playlist_items": "1",
        "socket_timeout": TIMEOUT_S,
        "retries": 0,  # tries are counted here, for pages and files alike
        "extractor_retries": 0,
        "fixup": "never",  # ffmpeg reads the file once, later, whatever its container
        "cachedir": False,
        "updatetime": False,
        "noprogress": True,
        "quiet": True,
        "logger": _Silence(),
        "progress_hooks": [check_stop],
    }
    check_stop({})
    try:
        with yt_dlp.YoutubeDL(options) as downloader:
            info = downloader.extract_info(url)
    except yt_dlp.utils.YoutubeDLError as error:
        raise _judge(error) from error
    entries = info.get("entries") if info else None
    found = (entries[0] if entries else info) or {}
    files = found.get("requested_downloads")
    if not files:
        raise Gone("the page holds no recording")
    return Path(files[0]["filepath"])


def _judge(error: Exception) -> Gone | Passing | Stopped:
    """What kind of failure an exception of yt-dlp is, by what it was caused by."""
    from yt_dlp.networking.exceptions import HTTPError, NoSupportingHandlers, RequestError
    from yt_dlp.utils import ExtractorError

    causes = list(_causes(error))
    if any(isinstance(cause, Stopped) for cause in causes):
        return Stopped()
    for cause in causes:
        if isinstance(cause, HTTPError):
            return (Gone if cause.status in GONE_STATUS else Passing)(f"HTTP {cause.status}: {cause.reason}")
        if isinstance(cause, NoSupportingHandlers) and not cause.unexpected_errors:
            return Gone(_reason(cause))  # a scheme that nothing here speaks
        if isinstance(cause, RequestError | OSError):
            return Passing(_reason(cause))
    # "expected" is yt-dlp's word for what the site says (private, removed, not in this country, no such format);
    # the rest is what it did not understand: a site that changed, or a page that came damaged. Some sites say in the
    # same way that they have had enough of us for now.
    said_by_the_site = any(isinstance(cause, ExtractorError) and cause.expected for cause in causes)
    gone = said_by_the_site and not _FOR_NOW.search(str(error))
    return (Gone if gone else Passing)(_reason(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        packed = getattr(error, "exc_info", None)
        error = (packed[1] if packed else None) or getattr(error, "cause", None) or error.__cause__ or error.__context__


def _reason(error: BaseException) -> str:
    return _AROUND_THE_REASON.sub("", str(error)).strip() or type(error).__name__
