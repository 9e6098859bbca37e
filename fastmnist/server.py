"""The drawing page, served to this machine and no other."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

HOST = "127.0.0.1"


def server(html: str, port: int) -> ThreadingHTTPServer:
    """A server of one page at ``http://127.0.0.1:port/``; port 0 takes any that is free.

    Raises
    ------
    OSError
        If the port is taken.
    """
    content = html.encode()

    class Page(BaseHTTPRequestHandler):
        timeout = 60  # seconds for a browser that connects and then says nothing

        def do_GET(self) -> None:
            found = urlsplit(self.path).path in ("/", "/index.html")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content) if found else 0))
            # the page itself needs nothing from anywhere, and may not ask for anything either
            policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
            self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            if found:
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing of every request."""

    return ThreadingHTTPServer((HOST, port), Page)
