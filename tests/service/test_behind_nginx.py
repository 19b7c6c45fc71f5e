"""Behind a real nginx: mutual TLS by its word alone, and no second request hidden in the first."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.service.certificates import Authority
from tests.service.world import World, token

if TYPE_CHECKING:
    from collections.abc import Iterator

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
SUBJECTS = {"CN=ada": ["reader"], "CN=acme": ["router"]}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Proxy:
    """nginx in front of a service: asks for client certificates, and names the subject in a header of its own."""

    def __init__(self, folder: Path, authority: Authority, upstream: int) -> None:
        self.port, self.plain, self.folder, self.authority = free_port(), free_port(), folder, authority
        shared = (
            f"location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1;"
            f" proxy_set_header Host 127.0.0.1:{upstream}; proxy_set_header Connection ''; proxy_buffering off;"
            " proxy_set_header x-client-subject $ssl_client_s_dn; } } "
        )
        user = f"user {pwd.getpwuid(os.geteuid()).pw_name};" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(
            f"{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} http {{ access_log off;"
            + "".join(
                f" {name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            + f" server {{ listen 127.0.0.1:{self.port} ssl; ssl_certificate {folder}/proxy.pem;"
            f" ssl_certificate_key {folder}/proxy.key; ssl_client_certificate {folder}/ca.pem; ssl_verify_client on; "
            + shared
            + f"server {{ listen 127.0.0.1:{self.plain}; "
            + shared
            + "}"
        )
        assert NGINX is not None
        command = [NGINX, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.process.poll() is None, (folder / "error.log").read_text()
                assert time.monotonic() < until
                time.sleep(0.05)

    def ask(self, path: str, client: str | None, **headers: str) -> httpx.Response:
        import ssl

        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if client is not None:
            context.load_cert_chain(self.folder / f"{client}.pem", self.folder / f"{client}.key")
        with httpx.Client(verify=context, timeout=30) as http:
            return http.get(f"https://127.0.0.1:{self.port}{path}", headers=headers)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)


@pytest.fixture(scope="module")
def proxied() -> Iterator[tuple[World, Proxy]]:
    if NGINX is None:
        pytest.skip("nginx is NOT here (Debian: nginx-light): the service was not tried behind a proxy")
    folder = Path(tempfile.mkdtemp(prefix="wcp-nginx-"))
    try:
        authority = Authority(folder)
        authority.issue("proxy", "proxy", server=True)
        for name in ("ada", "acme", "mallory"):
            authority.issue(name, name)
        Authority(folder, "other").issue("stranger", "ada")
        table: Any = {"peers": ["127.0.0.1"], "header": "x-client-subject", "roles": SUBJECTS}
        (folder / "hall").mkdir()
        world = World(folder / "hall", proxy=table)
        proxy = Proxy(folder, authority, world.server.port)
        yield world, proxy
        proxy.close()
        world.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_client_is_who_its_certificate_says_and_nobody_else(proxied: tuple[World, Proxy]) -> None:
    _, proxy = proxied
    assert proxy.ask("/receipts", "ada").status_code == 200
    assert proxy.ask("/receipts", "acme").status_code == 403  # a router may not
    assert proxy.ask("/receipts", "mallory").status_code == 401  # a good certificate, and nobody the settings name
    assert proxy.ask("/receipts", "mallory", **{"x-client-subject": "CN=ada"}).status_code == 401  # nginx overwrites it
    assert proxy.ask("/receipts", None).status_code == 400  # nginx itself: no certificate
    assert proxy.ask("/receipts", "stranger").status_code == 400  # of another authority


SMUGGLED = "GET /receipts HTTP/1.1\r\nHost: x\r\nx-client-subject: CN=ada\r\nX-Rest: "
LENGTHS = [
    "Content-Length: {short}\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: {long}\r\n",
    "Content-Length: {long}\r\nTransfer-Encoding: xchunked\r\n",
    "Content-Length: {long}\r\nTransfer-Encoding:\tchunked\r\n",
    "Content-Length: {long}\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Content-Length: {long}\r\nContent-Length: {short}\r\n",
    "Content-Length: +{long}\r\n",
    "Content-Length: {long}\r\n Transfer-Encoding: chunked\r\n",
]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_nothing_is_smuggled_past_a_proxy(proxied: tuple[World, Proxy], lengths: str) -> None:
    """However nginx and the service count a body, a request inside of it is answered to nobody."""
    world, proxy = proxied
    body = f"0\r\n\r\n{SMUGGLED}"
    head = "POST /wcp/route HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {token('acme')}\r\n" + lengths.format(short=5, long=len(body)) + "\r\n"
    before = len(world("GET", "/receipts?limit=200", "rita").json()["receipts"])
    with socket.create_connection(("127.0.0.1", proxy.plain), 20) as connection:
        connection.sendall((head + body).encode())
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        connection.settimeout(20)
        parts = []
        try:
            while part := connection.recv(65536):
                parts.append(part)
        except (TimeoutError, ConnectionResetError):
            pass
    answer = b"".join(parts)
    assert b'"receipts"' not in answer, answer
    assert answer.count(b"HTTP/1.1 200") <= 1, answer  # at most that of /healthz
    after = len(world("GET", "/receipts?limit=200", "rita").json()["receipts"])
    assert after - before <= 1  # at most the one request that was really sent was decided, as malformed
