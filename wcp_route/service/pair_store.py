"""Keeps the newest good pair of each worker, for the registry."""

from __future__ import annotations

import os
import re
from typing import Final

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.files import write_atomic
from wcp_route.service.problems import not_found
from wcp_route.storage.state_errors import StateError

MAX_PAIR_BYTES: Final = 700 << 10  # of base64; a body may have 1 MiB
WORKER_ID: Final = re.compile(r"[a-z0-9][a-z0-9.-]{2,127}\Z")


class PairStore:
    """Keeps the newest good pair of each worker in a directory of the service's own.

    Args:
        directory: where; made when it is not there (mode 0700).

    Raises:
        ConfigError: it cannot be made.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
        except OSError as problem:
            why = (problem.strerror or str(problem)).lower()
            raise ConfigError(
                f"cannot keep pairs in {directory!r}: {why}; name another directory with --pairs"
            ) from None

    def put(self, worker_id: str, manifest: bytes, signatures: bytes) -> None:
        """Keep a pair: both files or neither. It takes the place of an earlier one.

        Args:
            worker_id: whose.
            manifest: bytes of `manifest.json`.
            signatures: bytes of `manifest.sig`.

        Raises:
            Problem: 404, no worker can have that id.
            StateError: it cannot be written.
        """
        length = len(manifest).to_bytes(8, "big")
        try:
            write_atomic(self._place(worker_id), length + manifest + signatures, mode=0o600)
        except ConfigError as problem:
            raise StateError(str(problem)) from None

    def get(self, worker_id: str) -> tuple[bytes, bytes] | None:
        """Return a pair.

        Args:
            worker_id: whose.

        Returns:
            Manifest and signatures; None when none is kept.

        Raises:
            Problem: 404, no worker can have that id.
            OSError: it cannot be read.
        """
        try:
            with open(self._place(worker_id), "rb") as file:
                data = file.read(2 * MAX_PAIR_BYTES)
        except FileNotFoundError:
            return None
        size = int.from_bytes(data[:8], "big")
        return data[8 : 8 + size], data[8 + size :]

    def _place(self, worker_id: str) -> str:
        if not WORKER_ID.match(worker_id):
            raise not_found()
        return os.path.join(self._directory, f"{worker_id}.pair")
