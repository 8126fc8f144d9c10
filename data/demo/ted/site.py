"""Stands in for www.ted.com while a command runs: talk pages and recordings of the embedded corpus, on this machine.

    python data/demo/ted/site.py -- COMMAND ...

starts an HTTP proxy on a free port of 127.0.0.1, runs COMMAND with DEMO_SITE=http://127.0.0.1:PORT in its environment,
stops the proxy and returns COMMAND's exit status (128 + N where signal N ended it; the shell's habit). A request for
http://www.ted.com/talks/SLUG gets the page that www.ted.com would send, with the JSON in it that yt-dlp reads; the
recordings that the page names are served as well. Everything else is an error: nothing leaves this machine.

Reads ted_main.csv beside it, and site/SLUG.mp3 and site/SLUG.mp4. A talk of the table with neither is gone: 404.
"""

from __future__ import annotations

import csv
import html
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

FOLDER = Path(__file__).resolve().parent
PAGES, RECORDINGS = "www.ted.com", "download.ted.com"
MEDIA_TYPES = {".mp3": "audio/mpeg", ".mp4": "video/mp4"}


class Site:
    """The talks that the site has, by slug, and what it answers."""

    def __init__(self, folder: Path = FOLDER):
        self._recordings = folder / "site"
        with open(folder / "ted_main.csv", newline="", encoding="utf-8") as file:
            self._talks = {row["url"].strip().rsplit("/", 1)[1]: row for row in csv.DictReader(file)}

    def answer(self, host: str, path: str) -> tuple[HTTPStatus, str, bytes]:
        """(status, content type, body) for a GET of http://host/path."""
        if host == PAGES and path.startswith("/talks/"):
            page = self._page(path.removeprefix("/talks/").strip("/"))
            if page is not None:
                return HTTPStatus.OK, "text/html; charset=utf-8", page.encode()
        elif host == RECORDINGS and path.startswith("/talks/"):
            recording = self._recordings / Path(path).name
            if recording.suffix in MEDIA_TYPES and recording.is_file():
                return HTTPStatus.OK, MEDIA_TYPES[recording.suffix], recording.read_bytes()
        elif host not in (PAGES, RECORDINGS):
            return HTTPStatus.FORBIDDEN, "text/plain", f"{host} is not part of this site\n".encode()
        return HTTPStatus.NOT_FOUND, "text/plain", b"not found\n"

    def _page(self, slug: str) -> str | None:
        talk = self._talks.get(slug)
        files = {suffix: f"http://{RECORDINGS}/talks/{slug}{suffix}" for suffix in MEDIA_TYPES}
        files = {s: url for s, url in files.items() if (self._recordings / f"{slug}{s}").is_file()}
        if talk is None or not files:
            return None
        video = {
            "id": str(1000 + list(self._talks).index(slug)),
            "slug": slug,
            "title": talk["title"],
            "presenterDisplayName": talk["main_speaker"],
            "description": talk["description"],
            "duration": int(talk["duration"]),
            "viewedCount": int(talk["views"]),
            "audioDownload": files.get(".mp3"),
            "videoPlayerData": {
                "thumb": "http://pi.tedcdn.com/r/talk.jpg?quality=89",
                "resources": {"h264": [{"bitrate": 64, "file": files[".mp4"]}] if ".mp4" in files else []},
                "targeting": {"tag": "science,design"},
            },
        }
        data = json.dumps({"props": {"pageProps": {"videoData": video}}, "page": "/talks/[slug]"}).replace(
            "<", "\\u003c"
        )
        title = html.escape(talk["name"])
        return (
            f'<!DOCTYPE html><html lang="en"><head><title>{title} | TED Talk</title>'
            f'<meta property="og:title" content="{title}"/></head><body><div id="__next">{title}</div>'
            f'<script id="__NEXT_DATA__" type="application/json">{data}</script></body></html>'
        )


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers a proxy's requests (the whole URL in the first line) from `site`, which a subclass sets."""

    site: Site

    def do_GET(self) -> None:
        url = urlsplit(self.path if "://" in self.path else f"http://{self.headers.get('Host', '')}{self.path}")
        status, kind, body = self.site.answer(url.hostname or "", url.path)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def do_CONNECT(self) -> None:
        self.send_error(HTTPStatus.FORBIDDEN, "this site has no https: nothing leaves this machine")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what is fetched is the command's to report."""


class Server(http.server.ThreadingHTTPServer):
    """Says nothing of clients that hang up: a download that is broken off is the client's to report."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def serve(site: Site) -> Server:
    """Start answering on a free port of 127.0.0.1, in a thread; `.shutdown()` ends it."""
    handler = type("SiteHandler", (Handler,), {"site": site})
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main(arguments: list[str]) -> int:
    if len(arguments) < 2 or arguments[0] != "--":
        print("usage: python data/demo/ted/site.py -- COMMAND ...", file=sys.stderr)
        return 2
    server = serve(Site())
    environment = {**os.environ, "DEMO_SITE": f"http://127.0.0.1:{server.server_port}"}
    try:
        # A session of its own: a signal reaches the command once, from here, and not from the terminal as well.
        command = subprocess.Popen(arguments[1:], env=environment, start_new_session=True)
    except OSError as error:
        print(f"site.py: cannot run {arguments[1]}: {error}", file=sys.stderr)
        return 127
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: command.send_signal(received))
    status = command.wait()
    server.shutdown()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
