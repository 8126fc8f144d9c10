"""The embedded TED site, for tests that need one: as it is, or in trouble."""

import importlib.util
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

DEMO = Path(__file__).resolve().parent.parent / "data" / "demo"
SITE_PROGRAM = DEMO / "ted" / "site.py"

_spec = importlib.util.spec_from_file_location("demo_ted_site", SITE_PROGRAM)
site = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(site)

MP3_TALK = "tara_abbott_why_we_need_a_heartbeat"
MP4_TALK = next(path.stem for path in sorted((DEMO / "ted" / "site").glob("*.mp4")))


class TroubledSite(site.Site):
    """The site, which counts requests by path, and answers the first `refusals` of each path with `status`."""

    def __init__(self, refusals: int = 0, status: HTTPStatus = HTTPStatus.SERVICE_UNAVAILABLE):
        super().__init__()
        self.requests: Counter[str] = Counter()
        self.refusals, self.status = refusals, status
        self.paused_after = None
        self._pages = 0
        self.resume = threading.Event()

    def answer(self, host, path):
        self.requests[path] += 1
        if self.requests[path] <= self.refusals:
            return self.status, "text/plain", b"try again\n"
        if host == site.PAGES and self.paused_after is not None:
            self._pages += 1
            if self._pages > self.paused_after:
                self.resume.wait(60)
        return super().answer(host, path)


@contextmanager
def serving(served: site.Site) -> Iterator[str]:
    """The address of a proxy that answers as `served` does while the block runs."""
    server = site.serve(served)
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def talk_url(slug: str) -> str:
    return f"http://www.ted.com/talks/{slug}"


def gone_talk() -> str:
    """The talk of the table that the site no longer has."""
    kept = {path.stem for path in (DEMO / "ted" / "site").iterdir()}
    (gone,) = set(site.Site()._talks) - kept
    return gone
