"""A server before a server, which fails as networks and stores do, by a seed."""

import http.client
import http.server
import random
import threading
from collections import Counter

#: A store is asked again more often than that, so nothing is given up here.
IN_A_ROW_MAX = 3
FATES = ["500", "503", "lost before", "lost after", "cut off"]


class Faults(http.server.ThreadingHTTPServer):
    """Forwards requests to ``host:port``, of which a ``share`` fails."""

    daemon_threads = True

    def __init__(self, host: str, port: int, share: float, seed: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behind, self.share, self.chance = (host, port), share, random.Random(seed)
        self.lock, self.failed, self.in_a_row = threading.Lock(), Counter(), Counter()
        #: Uploads in parts that were begun, and whose names nobody was told.
        self.nameless = 0
        print(f"faults: seed {seed}")
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fate(self, request: str) -> str:
        with self.lock:
            if self.chance.random() > self.share or self.in_a_row[request] == IN_A_ROW_MAX:
                self.in_a_row[request] = 0
                return "none"
            self.in_a_row[request] += 1
            fate = FATES[sum(self.failed.values()) % len(FATES)]
            self.failed[fate] += 1
            return fate

    def translated(self, headers: dict[str, str]) -> dict[str, str]:
        """Headers as the server behind knows them."""
        return headers

    def handle_error(self, request, client_address) -> None:
        pass  # connections that break are what this is for


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def forward(self) -> None:
        self.close_connection = True
        fate = self.server.fate(f"{self.command} {self.path}")
        length = int(self.headers.get("Content-Length") or 0)
        if fate == "lost before":
            self.rfile.read(length // 2)
            self.connection.close()
            return
        body = self.rfile.read(length)
        if fate in ("500", "503"):
            code = "InternalError" if fate == "500" else "SlowDown"
            self.answer(int(fate), {}, f"<Error><Code>{code}</Code></Error>".encode())
            return
        behind = http.client.HTTPConnection(*self.server.behind)
        behind.request(self.command, self.path, body, self.server.translated(dict(self.headers.items())))
        response = behind.getresponse()
        content = response.read()
        if fate in ("lost after", "cut off") and self.command == "POST" and self.path.endswith(("?uploads", "?uploads=")):
            with self.server.lock:
                self.server.nameless += 1
        if fate == "lost after":
            self.connection.close()
            return
        kept = {name: value for name, value in response.getheaders() if name.lower() not in ("connection", "transfer-encoding")}
        self.answer(response.status, kept, content, cut=fate == "cut off")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward

    def answer(self, status: int, headers: dict[str, str], content: bytes, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
