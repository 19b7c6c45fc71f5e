"""A signed skill in the words of the MCP Skills extension (SEP-2640, `io.modelcontextprotocol/skills`).

    skill = skill_entry("pdf-forms", skill_path="acme/pdf-forms")
    skill["uri"]            # skill://acme/pdf-forms/SKILL.md
    skill["resources"]      # [{"uri": …, "digest": "sha256:…", "size": …}, …]

The digests are those of the signed manifest, so a host that compares what it reads with this list reads what was
signed. A server adds the `frontmatter` of `SKILL.md`, which the extension wants beside them.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from wcp_attest.advice.kinds.described import MAX_BYTES
from wcp_attest.advice.kinds.skill import front_matter
from wcp_attest.base.digest import sha256_hex
from wcp_attest.base.errors import ConfigError, SignatureMissing, VerificationError
from wcp_attest.disk.files import read_bounded
from wcp_attest.disk.placement import PackagePair, find_place
from wcp_attest.package.entries import File, Symlink
from wcp_attest.package.manifest import Manifest
from wcp_attest.package.signature_file import parse_lines
from wcp_attest.package.statement import Statement

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject

META_PREFIX: Final = "dev.workerclassprotocol.attest/"
MAX_FILES: Final = 10_000  # a host reads them one by one
_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}")
_SKILL_FILE: Final = "SKILL.md"


def skill_entry(root: str, *, skill_path: str | None = None, attestation: str | None = None) -> JsonObject:
    """Return `uri`, `resources` and `_meta` of a signed skill.

    Args:
        root: the package directory.
        skill_path: where the server serves the skill, `acme/pdf-forms`; by default its name alone.
        attestation: the directory of a detached pair.

    Raises:
        ConfigError: it is no skill, its digests are not SHA-256, it holds links, its `SKILL.md` differs from the
            manifest, or the path does not end in its name.
        VerificationError: the pair is missing or malformed.
    """
    pair = PackagePair.read(find_place(root, attestation))
    if pair.signatures is None:
        raise SignatureMissing("the package is not signed; sign it first")
    manifest = Manifest.parse(pair.manifest)
    if manifest.hash_algorithm != "sha256":
        raise ConfigError(
            f"the digests are {manifest.hash_algorithm}, hosts compare sha256; build with --algorithm sha256"
        )
    if manifest.count > MAX_FILES:
        raise ConfigError(f"the package holds more than {MAX_FILES} entries; hosts read the files one by one")
    entries = manifest.entries()
    card = entries.get(_SKILL_FILE)
    if not isinstance(card, File):
        raise ConfigError(f"the package is no skill: its manifest lists no file {_SKILL_FILE}")
    data = read_bounded(os.path.join(root, _SKILL_FILE), limit=MAX_BYTES, what=_SKILL_FILE)
    if sha256_hex(data) != card.digest:
        raise ConfigError(f"{_SKILL_FILE} is not what was signed; `wcp-attest verify` tells what else differs")
    base = "skill://" + _checked_path(skill_path, front_matter(data).get("name"))
    resources: list[JsonObject] = [
        {"uri": f"{base}/{quote(path)}", "digest": f"sha256:{sha256_hex(content)}", "size": len(content)}
        for path, content in pair.in_tree.items()  # so that a host can verify the whole package, too
    ]
    for path, entry in entries.items():
        if isinstance(entry, Symlink):
            raise ConfigError(f"{path!r} is a link, which cannot be a resource; put a copy in its place")
        if isinstance(entry, File):
            resources.append({"uri": f"{base}/{quote(path)}", "digest": f"sha256:{entry.digest}", "size": entry.size})
    return {
        "uri": f"{base}/{_SKILL_FILE}",
        "resources": [*sorted(resources, key=lambda one: str(one["uri"]))],
        "_meta": {
            f"{META_PREFIX}manifest-sha256": (digest := sha256_hex(pair.manifest)),
            f"{META_PREFIX}statements": [*_statements(pair.signatures, digest)],
        },
    }


def _checked_path(skill_path: str | None, name: str | None) -> str:
    if name is None:
        raise ConfigError(f"{_SKILL_FILE}: the front matter needs `name`")
    path = name if skill_path is None else skill_path
    segments = path.split("/")
    if len(path) > 1024 or not all(map(_SEGMENT.fullmatch, segments)):
        raise ConfigError(f"{path[:80]!r} is no skill path: letters, digits, `.`, `_`, `~`, `-` between slashes")
    if segments[-1] != name:
        raise ConfigError(f"the skill path must end in the skill's name: acme/{name}, not {path[:80]!r}")
    return path


def _statements(signatures: bytes, manifest_sha256: str) -> list[str]:
    """Return the lines that are about this manifest.

    Raises:
        SignatureMissing: none is.
    """
    found = []
    for line in parse_lines(signatures):
        try:
            statement = Statement.from_bytes(line.envelope.payload)
        except VerificationError:
            continue
        if statement.manifest_sha256 == manifest_sha256:
            found.append(line.raw.decode())
    if not found:
        raise SignatureMissing("no signature is about this manifest; sign the package again")
    return found
