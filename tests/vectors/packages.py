"""Packages as data: a tree described in JSON, written to disk for a verifier, and signed with keys that never change.

{"bin/run": {"text": "#!/bin/sh\\n", "mode": "0755"}, "weights": {"base64": "AAE="}, "cache": {"directory": true},
 "model.bin": {"symlink": "weights"}, "pipe": {"fifo": true}}
"""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from functools import cache
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wcp_attest.base.identity import format_utc
from wcp_attest.build import build_manifest
from wcp_attest.disk.options import ReadOptions
from wcp_attest.package.signature_file import PAYLOAD_TYPE, Envelope, pae, render_signature
from wcp_attest.package.statement import Statement
from wcp_attest.signing.hmac import HmacSecret
from wcp_attest.signing.key import TrustedKey

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from wcp_attest.package.manifest import Manifest

Tree: TypeAlias = "dict[str, dict[str, Any]]"

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
SIGNED_AT = 1_795_356_005  # 2026-11-22T14:00:05Z
BUILT_AT = SIGNED_AT - 5
WHO = {"worker_id": "org.acme.summarizer", "worker_species_id": "wrk.doc.summarizer", "worker_version": "1.4.0"}


def materialise_case(case: Mapping[str, Any], root: Path) -> tuple[Path, Path | None]:
    """Write the tree and the pair of a case.

    Returns:
        The package, and the directory of its pair when that is detached.
    """
    placement = case.get("placement", "beside")
    pair = {name: case[name] for name in ("manifest.json", "manifest.sig") if case[name] is not None}
    if placement == "detached":
        return materialise(case["tree"], root), materialise(pair, root.with_name(root.name + "-pair"))
    prefix = ".wcp/" if placement == "folder" else ""
    return materialise({**case["tree"], **{prefix + name: node for name, node in pair.items()}}, root), None


def materialise(tree: Tree, root: Path) -> Path:
    """Write a described tree below `root`, with exactly the modes it asks for."""
    root.mkdir(parents=True)
    for name, node in tree.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if "symlink" in node:
            path.symlink_to(node["symlink"])
        elif "directory" in node:
            path.mkdir()
        elif "fifo" in node:
            os.mkfifo(path)
        else:
            path.write_bytes(node["text"].encode() if "text" in node else base64.b64decode(node["base64"]))
            path.chmod(int(node.get("mode", "0644"), 8))
    return root


@cache
def private_keys() -> dict[str, Any]:
    """Return the private keys of the vectors: published numbers, good for nothing else."""
    return {
        # RFC 8032 section 7.1, test 1
        "ed25519": Ed25519PrivateKey.from_private_bytes(
            bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
        ),
        "ed25519-other": Ed25519PrivateKey.from_private_bytes(bytes(range(32))),
        "p256": ec.derive_private_key(0xC9AFA9D845BA75166B5C215767B1D693, ec.SECP256R1()),
        "p384": ec.derive_private_key(0x6B9D3DAD2E1B8C1C05B19875B6659F4D, ec.SECP384R1()),
    }


def public_pem(name: str) -> bytes:
    """Return a public key as its file."""
    return bytes(private_keys()[name].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def key_id(name: str) -> str:
    """Return the id of a key."""
    return TrustedKey.from_file_bytes(public_pem(name)).key_id


def raw_signature(name: str, message: bytes) -> bytes:
    """Sign so that the same message always gives the same signature (ECDSA by RFC 6979)."""
    key = private_keys()[name]
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    algorithm = hashes.SHA256()
    return bytes(key.sign(message, ec.ECDSA(algorithm, deterministic_signing=True)))


@dataclass(frozen=True)
class Package:
    """A tree with the means to build and sign it."""

    tree: Tree
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the tree as it is described."""
        with TemporaryDirectory() as folder:
            from pathlib import Path

            root = materialise(self.tree, Path(folder) / "package")
            options = {**WHO, "build_source": "ci", "built_at": BUILT_AT, **self.options}
            bytecode, placement = options.pop("bytecode", "leave"), options.pop("placement", "beside")
            return build_manifest(root, **options, options=ReadOptions(bytecode=bytecode, placement=placement))

    def statement(self, **changes: Any) -> bytes:
        """What its signers sign."""
        manifest = self.manifest
        at = format_utc(changes.pop("signed_at", SIGNED_AT))
        statement = Statement.of(manifest, manifest.to_bytes(), signed_at_utc=at)
        return Statement(**{**_fields(statement), **changes}).to_bytes()

    def hmac_line(self, **changes: Any) -> bytes:
        """A line by the shared secret."""
        return hmac_line(self.statement(**changes))

    def key_line(self, name: str, **changes: Any) -> bytes:
        """A line by a key."""
        return key_line(name, self.statement(**changes))


def _fields(statement: Statement) -> dict[str, Any]:
    return {name: getattr(statement, name) for name in Statement.__slots__}


def hmac_line(payload: bytes, secret: str = SECRET) -> bytes:
    """Sign any payload with a shared secret."""
    return HmacSecret(secret.encode()).sign(payload) + b"\n"


def key_line(name: str, payload: bytes, *, payload_type: str = PAYLOAD_TYPE, hint: str = "") -> bytes:
    """Sign any payload with a key."""
    signature = raw_signature(name, pae(payload_type, payload))
    return render_signature(Envelope(payload, signature, payload_type), hint or key_id(name)) + b"\n"


def reenveloped(line: bytes, **changes: Any) -> bytes:
    """Return an HMAC line with other parts in its envelope."""
    from wcp_attest.package.signature_file import parse_line

    envelope = parse_line(line.rstrip(b"\n")).envelope
    parts = {name: getattr(envelope, name) for name in Envelope.__slots__}
    return render_signature(Envelope(**{**parts, **changes})) + b"\n"
