"""Ask the agent of OpenSSH, over its socket, which keys it holds and for a signature (draft-ietf-sshm-ssh-agent).

Each message is a length of four bytes, a type of one byte, and fields; texts and blobs have a length of four bytes.
An answer of the agent is bounded in size and time. The time is long enough for a person to confirm the use of a key.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError, SigningError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEADLINE: Final = 60.0  # seconds
MAX_ANSWER: Final = 256 * 1024  # what OpenSSH's agent takes and gives at most
_REQUEST_IDENTITIES, _IDENTITIES_ANSWER = 11, 12
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14


def agent_keys(path: str) -> list[tuple[bytes, str]]:
    """Return the keys that an agent holds.

    Args:
        path: of its socket, as `SSH_AUTH_SOCK` names it.

    Returns:
        The public key of each, in the encoding of RFC 4253 section 6.6, and its comment.

    Raises:
        ConfigError: the agent cannot be asked, or its answer cannot be used.
    """
    try:
        answer = _ask(path, bytes([_REQUEST_IDENTITIES]), _IDENTITIES_ANSWER)
        count, fields = min(int.from_bytes(answer[:4], "big"), MAX_ANSWER // 8), _fields(answer[4:])
        return [(next(fields), next(fields).decode("utf-8", "replace")) for _ in range(count)]
    except (OSError, ValueError, StopIteration) as problem:
        raise ConfigError(f"the ssh-agent at {path!r} cannot be asked: {_reason(problem)}") from None


def agent_signature(path: str, key: bytes, message: bytes) -> tuple[bytes, bytes]:
    """Let an agent sign a message.

    Args:
        path: of its socket.
        key: the public key, as `agent_keys` returns it.
        message: what to sign, not a digest of it; the agent hashes it as the key's algorithm demands.

    Returns:
        The name of the algorithm, such as `ssh-ed25519`, and the signature in that algorithm's own form.

    Raises:
        SigningError: the agent refuses, does not answer, or its answer cannot be used.
    """
    request = bytes([_SIGN_REQUEST]) + b"".join(len(each).to_bytes(4, "big") + each for each in (key, message))
    try:
        answer = _ask(path, request + bytes(4), _SIGN_RESPONSE)  # 4 zero bytes: no flags
        algorithm, signature = _fields(next(_fields(answer)))
    except (OSError, ValueError, StopIteration) as problem:
        raise SigningError(f"the ssh-agent at {path!r} did not sign: {_reason(problem)}") from None
    return algorithm, signature


def _ask(path: str, request: bytes, expected: int) -> bytes:
    """Send one request and return the answer behind its type."""
    until = time.monotonic() + DEADLINE
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        connection.settimeout(DEADLINE)
        connection.connect(path)
        connection.sendall(len(request).to_bytes(4, "big") + request)
        data, size = b"", 4  # first the length alone
        while len(data) < size:
            connection.settimeout(max(0.001, until - time.monotonic()))
            part = connection.recv(size - len(data))
            if not part:
                raise ValueError("its answer ends too early")
            data += part
            size = 4 if len(data) < 4 else 4 + int.from_bytes(data[:4], "big")
            if len(data) >= 4 and not 4 < size <= 4 + MAX_ANSWER:
                raise ValueError(f"its answer has {size - 4} bytes")
    if data[4] != expected:
        raise ValueError("it refused" if data[4] == 5 else f"its answer is of type {data[4]}")
    if len(data) < 9:  # both answers that are asked for begin with a length or a count
        raise ValueError("its answer ends too early")
    return data[5:]


def _fields(data: bytes) -> Iterator[bytes]:
    """Yield the texts and blobs that stand one after the other."""
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if at + 4 + size > len(data):
            raise ValueError("its answer is malformed")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def _reason(problem: BaseException) -> str:
    if isinstance(problem, TimeoutError):
        return "no answer came in time"
    return getattr(problem, "strerror", None) or str(problem) or "its answer is malformed"
