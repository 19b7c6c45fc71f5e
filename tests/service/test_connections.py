"""Connections that only cost: heads that never end, answers that nobody takes, and thousands that say nothing."""

from __future__ import annotations

import resource
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.service.world import World, a_request, token

if TYPE_CHECKING:
    from pathlib import Path


def connect(world: World, data: bytes = b"") -> socket.socket:
    found = socket.create_connection(("127.0.0.1", world.server.port), 20)
    if data:
        found.sendall(data)
    return found


def is_closed(connection: socket.socket) -> bool:
    """Wait for the other side to end the connection; a timeout is none."""
    connection.settimeout(20)
    try:
        while connection.recv(65536):
            pass
        return True
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("said", [b"", b"GET /healthz HTTP/1.1\r\nHost: a", b"\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(tmp_path: Path, said: bytes) -> None:
    world = World(tmp_path, head_seconds=0.5)
    with connect(world, said) as slow:
        assert is_closed(slow)
    assert world("GET", "/healthz").status_code == 200
    world.close()


def test_bytes_that_trickle_do_not_move_the_deadline(tmp_path: Path) -> None:
    world = World(tmp_path, head_seconds=0.5)
    with connect(world, b"GET /healthz HTTP/1.1\r\n") as slow:
        slow.settimeout(20)
        sent = 0
        try:
            for sent in range(300):  # cut off, although something comes all the time
                slow.sendall(f"x-{sent}: y\r\n".encode())
                time.sleep(0.05)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert 1 < sent < 250
    world.close()


def test_small_answers_are_sent_at_once(tmp_path: Path) -> None:
    """Without TCP_NODELAY each answer on a kept connection waits for the client's delayed acknowledgement."""
    world = World(tmp_path)
    place = world.server.listen()
    with place, socket.create_connection(place.getsockname(), 20), place.accept()[0] as accepted:
        assert accepted.proto == socket.IPPROTO_TCP  # what asyncio looks at before it sets the option
    world.close()


def test_a_request_in_progress_outlives_the_deadline_of_heads(tmp_path: Path) -> None:
    world = World(tmp_path, head_seconds=1, body_seconds=20)
    host = f"Host: 127.0.0.1:{world.server.port}\r\nAuthorization: Bearer {token('acme')}\r\n".encode()
    head = b"POST /wcp/route HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{"
    with connect(world, head) as slow:
        time.sleep(1.5)  # longer than a head may take
        slow.sendall(b"}")
        assert slow.recv(65536).startswith(b"HTTP/1.1 400")  # an answer, to a request that says too little
    world.close()


def test_thousands_of_silent_connections_do_no_harm(tmp_path: Path) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, (soft - 512) // 2) if soft != resource.RLIM_INFINITY else 10_000
    limit = count // 4  # both ends are in this process
    world = World(tmp_path, connections=limit, head_seconds=60)
    silent = []
    try:
        for number in range(count):
            silent.append(connect(world))
            if number % (count // 10) == 0:  # at every stage of the flood somebody is served
                answer = world("POST", "/wcp/route", "acme", a_request())
                assert (answer.status_code, answer.json()["outcome"]) == (200, "DISPATCH")
        assert is_closed(silent[0])  # the longest waiting one made room
        assert world("GET", "/healthz").status_code == 200
    finally:
        for one in silent:
            one.close()
        world.close()


def test_a_connection_with_a_request_in_progress_is_not_put_out_by_new_ones(tmp_path: Path) -> None:
    world = World(tmp_path, connections=5, head_seconds=60, body_seconds=20)
    host = f"Host: 127.0.0.1:{world.server.port}\r\nAuthorization: Bearer {token('acme')}\r\n".encode()
    head = b"POST /wcp/route HTTP/1.1\r\nExpect: 100-continue\r\n" + host
    others: list[Any] = []
    with connect(world, head + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n") as slow:
        assert slow.recv(65536).startswith(b"HTTP/1.1 100")  # the service waits for the body now
        slow.sendall(b"{")
        others += [connect(world) for _ in range(50)]
        assert world("GET", "/healthz").status_code == 200
        slow.sendall(b"}")
        assert slow.recv(65536).startswith(b"HTTP/1.1 400")
    for one in others:
        one.close()
    world.close()


def ask_and_take_nothing(world: World, times: int) -> socket.socket:
    """Send many requests at once on a connection whose client has little room for answers."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.connect(("127.0.0.1", world.server.port))
    found.sendall(f"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1:{world.server.port}\r\n\r\n".encode() * times)
    return found


def test_clients_that_take_no_answer_keep_nobody_from_working(tmp_path: Path) -> None:
    world = World(tmp_path, concurrent=2, waiting=2, head_seconds=60)
    idle = [ask_and_take_nothing(world, 400) for _ in range(6)]  # more answers than the system keeps for them
    for _ in range(5):
        answer = world("POST", "/wcp/route", "acme", a_request())
        assert (answer.status_code, answer.json()["outcome"]) == (200, "DISPATCH")
    for one in idle:
        one.close()
    world.close()


def test_an_answer_that_is_not_taken_is_not_waited_for(tmp_path: Path) -> None:
    world = World(tmp_path, head_seconds=0.5)
    with ask_and_take_nothing(world, 400) as idle:
        time.sleep(2)
        assert is_closed(idle)
    world.close()


def test_a_client_that_takes_an_answer_slowly_gets_all_of_it(tmp_path: Path) -> None:
    world = World(tmp_path, head_seconds=1)
    size = 24 << 20
    (tmp_path / "bans.json").write_bytes(b" " * size)
    head = f"Host: 127.0.0.1:{world.server.port}\r\nAuthorization: Bearer {token('rita')}\r\n\r\n".encode()
    taken = 0
    with connect(world, b"GET /api/v1/ban-lists/soc HTTP/1.1\r\n" + head) as slow:
        while taken < size:
            part = slow.recv(1 << 20, socket.MSG_WAITALL)
            assert part, f"ended after {taken} bytes"
            taken += len(part)
            time.sleep(0.1)  # longer for all of it than the next head may take
    world.close()
