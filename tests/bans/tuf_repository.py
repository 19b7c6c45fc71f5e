"""A TUF repository, made with the library's own metadata API and served by the test server."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from securesystemslib.signer import CryptoSigner
from tuf.api import metadata as tuf
from tuf.api.serialization.json import JSONSerializer

from tests.bad_http import reply

if TYPE_CHECKING:
    from tests.bad_http import BadServer

ROLES = ("root", "timestamp", "snapshot", "targets")
LONG = dt.timedelta(days=30)


@dataclass
class TufRepository:
    """A repository that can also publish what it must not.

    Attributes:
        server: serves `/metadata/` and `/targets/`.
        signers: one a role.
        versions: of the metadata published last.
    """

    server: BadServer
    signers: dict[str, CryptoSigner] = field(
        default_factory=lambda: {role: CryptoSigner.generate_ed25519() for role in ROLES}
    )
    versions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROLES, 0))
    files: dict[str, bytes] = field(default_factory=dict)

    def start(self, *, root_expires: dt.timedelta = LONG) -> bytes:
        """Publish the first root and return it."""
        return self.publish_root(expires=root_expires)

    def publish_root(self, *, expires: dt.timedelta = LONG, signers: tuple[CryptoSigner, ...] = ()) -> bytes:
        """Publish the next root, signed by the root key and perhaps others, and return it."""
        self.versions["root"] += 1
        version = self.versions["root"]
        root = tuf.Root(version=version, expires=_at(expires), consistent_snapshot=True)
        for role in ROLES:
            root.add_key(self.signers[role].public_key, role)
        document: tuf.Metadata[tuf.Root] = tuf.Metadata(root)
        for signer in (self.signers["root"], *signers):
            document.sign(signer, append=True)
        data = _bytes(document)
        self.put(f"/metadata/{version}.root.json", data)
        return data

    def publish(
        self,
        targets: dict[str, bytes],
        *,
        expires: dict[str, dt.timedelta] | None = None,
        versions: dict[str, int] | None = None,
    ) -> None:
        """Publish targets and the three roles above them, one version on unless told otherwise."""
        lifetimes = {**dict.fromkeys(ROLES, LONG), **(expires or {})}
        for role in ("targets", "snapshot", "timestamp"):
            self.versions[role] = (versions or {}).get(role, self.versions[role] + 1)
        listed = {name: tuf.TargetFile.from_data(name, data, ["sha256"]) for name, data in targets.items()}
        for name, data in targets.items():
            self.put(f"/targets/{listed[name].hashes['sha256']}.{name}", data)
        self.sign("targets", tuf.Targets(self.versions["targets"], expires=_at(lifetimes["targets"]), targets=listed))
        meta = {"targets.json": tuf.MetaFile(self.versions["targets"])}
        self.sign("snapshot", tuf.Snapshot(self.versions["snapshot"], expires=_at(lifetimes["snapshot"]), meta=meta))
        above = tuf.MetaFile(self.versions["snapshot"])
        self.sign(
            "timestamp",
            tuf.Timestamp(self.versions["timestamp"], expires=_at(lifetimes["timestamp"]), snapshot_meta=above),
        )

    def sign(self, role: str, signed: Any, signer: CryptoSigner | None = None) -> None:
        """Sign and publish the metadata of a role."""
        document: tuf.Metadata[Any] = tuf.Metadata(signed)
        document.sign(signer or self.signers[role])
        name = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        self.put(f"/metadata/{name}", _bytes(document))

    def put(self, path: str, data: bytes) -> None:
        """Serve a file."""
        self.files[path] = data
        self.server.route(path, reply(data, kind="application/octet-stream"))


def _at(lifetime: dt.timedelta) -> dt.datetime:
    return (dt.datetime.now(dt.UTC) + lifetime).replace(microsecond=0)


def _bytes(document: tuf.Metadata[Any]) -> bytes:
    return document.to_bytes(JSONSerializer(compact=False))
