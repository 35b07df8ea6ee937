"""Servers of Git repositories on loopback: plain answers, git over HTTPS, git over ssh."""

from __future__ import annotations

import base64
import os
import pwd
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.pki import Authority


class Remote:
    """A web server that answers every request as it is told, and notes what it was shown."""

    def __init__(
        self,
        status: int,
        headers: dict[str, str],
        handler: type[BaseHTTPRequestHandler] | None = None,
    ) -> None:
        self.shown: list[str] = []
        self.release = threading.Event()
        remote = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                remote.shown.append(self.headers.get("Authorization", ""))
                if status == 0:
                    remote.release.wait(30)
                    return
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler or Handler)
        self.server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/repository"

    @contextmanager
    def serving(self) -> Iterator[Remote]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.release.set()
            self.server.shutdown()
            thread.join()
            self.server.server_close()


class Served(BaseHTTPRequestHandler):
    """Serves the repositories below a folder with git's own http-backend."""

    root: Path

    def do_GET(self) -> None:
        self.answer(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        self.answer(body)

    def answer(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, capture_output=True, check=True
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        status = next((value for name, value in lines if name == "Status"), "200 OK")
        self.send_response(int(status[:3]))
        for name, value in lines:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Guarded(Served):
    """Asks for a user name and a password first."""

    wanted: str

    def answer(self, body: bytes) -> None:
        if self.headers.get("Authorization") == f"Basic {self.wanted}":
            super().answer(body)
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="git"')
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def over_https(root: Path, authority: Authority, user: str, password: str) -> Iterator[str]:
    """Serve the repositories below a folder to who has the password; yield the base URL."""
    wanted = base64.b64encode(f"{user}:{password}".encode()).decode()
    remote = Remote(200, {}, type("Handler", (Guarded,), {"root": root, "wanted": wanted}))
    pair = authority.server("git", ["localhost"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    # In the handler's thread: a client that breaks the handshake off ends only itself.
    remote.server.socket = context.wrap_socket(
        remote.server.socket, server_side=True, do_handshake_on_connect=False
    )
    remote.server.handle_error = lambda *_: None  # type: ignore[method-assign, assignment]
    with remote.serving():
        yield f"https://localhost:{remote.server.server_port}"


class SshServer:
    """A real sshd that lets one key in; `user`, `port`, and what a client needs to know."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
        if program is None or shutil.which("ssh-keygen") is None:
            pytest.skip("no sshd here: ssh is not tried against a real server")
        folder.mkdir(mode=0o700)
        self.folder = folder
        self.user = pwd.getpwuid(os.getuid()).pw_name
        self.key, self.other_key = self._keys("client"), self._keys("stranger")
        host = self._keys("host")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        (folder / "authorized").write_text((folder / "client.pub").read_text())
        self.known_hosts = self._known("known", folder / "host.pub")
        self.wrong_hosts = self._known("wrong", folder / "stranger.pub")
        config = folder / "config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {host}\n"
            f"AuthorizedKeysFile {folder / 'authorized'}\nPasswordAuthentication no\n"
            f"StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin prohibit-password\n"
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self._command = [program, "-D", "-e", "-f", str(config)]

    def _keys(self, name: str) -> Path:
        path = self.folder / name
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(path)], check=True
        )
        return path

    def _known(self, name: str, public: Path) -> Path:
        path = self.folder / name
        kind, key, _ = public.read_text().split()
        path.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        return path

    @contextmanager
    def serving(self) -> Iterator[None]:
        with (self.folder / "log").open("wb") as log:
            process = subprocess.Popen(self._command, stderr=log)
        try:
            for _ in range(500):
                try:
                    socket.create_connection(("127.0.0.1", self.port), 1).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.02)
            else:
                pytest.fail(f"sshd did not start: {(self.folder / 'log').read_text()}")
            yield
        finally:
            process.terminate()
            process.wait(10)
