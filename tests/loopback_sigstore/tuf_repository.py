"""A TUF repository that distributes the trusted root and the signing configuration, made with python-tuf."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from securesystemslib.signer._crypto_signer import CryptoSigner
from tuf.api._payload import MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.metadata import Metadata
from tuf.api.serialization.json import JSONSerializer

from tests.loopback_sigstore.faults import Service
from tests.loopback_sigstore.server import Handler, Request, Response, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = "/tuf"
LIFETIME = timedelta(days=1)


class TufRepository:
    """One version of everything, signed by one key.

    Args:
        targets: name and content of each target file.

    Attributes:
        root: the bytes of version 1 of the root role, what a client is bootstrapped with.
    """

    def __init__(self, targets: Mapping[str, bytes]) -> None:
        self._signer = CryptoSigner.generate_ed25519()
        expires = datetime.now(UTC).replace(microsecond=0) + LIFETIME
        root = Root(expires=expires, consistent_snapshot=True)
        for role in ("root", "targets", "snapshot", "timestamp"):
            root.add_key(self._signer.public_key, role)
        files = {name: TargetFile.from_data(name, data, ["sha256"]) for name, data in targets.items()}
        self.root = self._sign(Metadata(root))
        self._files = {
            "1.root.json": self.root,
            "1.targets.json": self._sign(Metadata(Targets(expires=expires, targets=files))),
            "1.snapshot.json": self._sign(Metadata(Snapshot(expires=expires, meta={"targets.json": MetaFile(1)}))),
            "timestamp.json": self._sign(Metadata(Timestamp(expires=expires, snapshot_meta=MetaFile(1)))),
        }
        for name, data in targets.items():
            self._files[f"targets/{files[name].hashes['sha256']}.{name}"] = data

    def routes(self) -> list[Route]:
        """Return one route a file."""
        return [Route(Service.TUF, "GET", f"{PATH}/{name}", _serving(data)) for name, data in self._files.items()]

    def _sign(self, metadata: Metadata[Any]) -> bytes:
        metadata.sign(self._signer)
        return metadata.to_bytes(JSONSerializer())


def _serving(data: bytes) -> Handler:
    def handler(_: Request) -> Response:
        return Response(200, data, "application/octet-stream")

    return handler
