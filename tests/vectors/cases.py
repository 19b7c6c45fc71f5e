"""The cases: what a verifier is given, and what it must answer."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.vectors.packages import (
    SECRET,
    SIGNED_AT,
    WHO,
    Package,
    Tree,
    hmac_line,
    key_id,
    key_line,
    reenveloped,
)
from wcp_attest.base.digest import sha256_hex
from wcp_attest.package.legacy_manifest import Awp1Manifest
from wcp_attest.package.provenance import AiOrigin, SourceOrigin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.disk.placement import Placement

NOW = SIGNED_AT + 3600
TREE: Tree = {
    "bin/run": {"text": "#!/bin/sh\nexec python3 code/worker.py\n", "mode": "0755"},
    "cache": {"directory": True},
    "code/worker.py": {"text": "def execute(request, context):\n    return request\n"},
    "model.bin": {"symlink": "weights/model-7.bin"},
    "requirements.lock": {"text": ""},
    "weights/model-7.bin": {"base64": base64.b64encode(bytes(range(256))).decode()},
}
HMAC = 'hmac = { env = "WCP_ATTEST_HMAC_KEY" }'


def policy(*signers: str, name: str = "org.acme", threshold: int = 1, accept: str = "") -> str:
    """Return a trust policy."""
    lines = ["version = 1", "[[namespace]]", f'name = "{name}"', f"threshold = {threshold}"]
    for signer in signers or (HMAC,):
        lines += ["[[namespace.signer]]", signer]
    return "\n".join([*lines, *(["[accept]", accept] if accept else []), ""])


def key(name: str) -> str:
    """Return the policy's entry for a key of the vectors."""
    return f'key = "keys/{name}.pub"'


@dataclass(frozen=True)
class Case:
    """One vector.

    Attributes:
        name: of its file.
        why: what it shows.
        tree: the package without its two files.
        manifest: `manifest.json`, None when it is absent.
        signatures: `manifest.sig`, None when it is absent.
        expected: the code, empty for a pass.
        differences: the entries that differ and how.
        policy: TOML.
        expect: what the caller expects of the worker.
        now: seconds since the epoch.
        placement: where the two files lie.
    """

    name: str
    why: str
    tree: Tree
    manifest: bytes | None
    signatures: bytes | None
    expected: str = ""
    differences: tuple[tuple[str, str], ...] = ()
    policy: str = policy()
    expect: tuple[tuple[str, str], ...] = ()
    now: int = NOW
    placement: Placement = "beside"

    def to_json(self) -> dict[str, Any]:
        """Return the document."""
        answer: dict[str, Any] = {"ok": not self.expected}
        if self.expected:
            answer["code"] = self.expected
        if self.differences:
            answer["differences"] = [list(difference) for difference in self.differences]
        document: dict[str, Any] = {"name": self.name, "why": self.why, "tree": self.tree}
        for name, data in (("manifest.json", self.manifest), ("manifest.sig", self.signatures)):
            document[name] = None if data is None else _node(data)
        if self.placement != "beside":
            document["placement"] = self.placement
        return {
            **document,
            "policy": self.policy,
            "environment": {"WCP_ATTEST_HMAC_KEY": SECRET},
            "expect": dict(self.expect),
            "now": self.now,
            "expected": answer,
        }


def _node(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


PACKAGE = Package(TREE)
GOOD = Case("hmac", "", TREE, PACKAGE.manifest.to_bytes(), PACKAGE.hmac_line())
DATA = GOOD.manifest or b""


def case(name: str, why: str, code: str = "", **changes: Any) -> Case:
    """Return the good case with changes."""
    return replace(GOOD, **{"name": name, "why": why, "expected": code and f"ATTEST_{code}", **changes})


def signed(name: str, why: str, package: Package, **changes: Any) -> Case:
    """Return the case of another package with a good signature."""
    changes = {"manifest": package.manifest.to_bytes(), "signatures": package.hmac_line(), **changes}
    return case(name, why, **{"tree": package.tree, **changes})


def passes() -> Iterator[Case]:
    """Yield the packages that pass."""
    yield case("hmac", "every kind of entry, signed by a shared secret", expect=tuple(_expectation().items()))
    for name in ("ed25519", "p256", "p384"):
        yield case(
            f"key-{name}", f"signed by a key, {name}", signatures=PACKAGE.key_line(name), policy=policy(key(name))
        )
    both = PACKAGE.key_line("ed25519") + PACKAGE.hmac_line()
    yield case("threshold", "two of two signers", signatures=both, policy=policy(key("ed25519"), HMAC, threshold=2))
    yield case("stranger-beside", "a line by somebody the policy does not know", signatures=both)
    blake = Package(TREE, {"algorithm": "blake3"})
    yield signed("blake3", "digests by BLAKE3", blake)
    git = Package({**TREE, ".git/HEAD": {"text": "ref: refs/heads/main\n"}})
    yield signed("excludes-git", "a directory that the manifest excludes", git)
    logs = {"a.log": {"text": "1"}, "keep.log": {"text": "2"}, "deep/b.log": {"text": "3"}}
    yield signed(
        "excludes", "patterns, the last match wins", Package({**TREE, **logs}, {"excludes": ["*.log", "!keep.log"]})
    )
    names = {"docs/\u00e9.md": {"text": ""}, 'docs/"quoted".md': {"text": ""}, "docs/\U0001f600": {"text": ""}}
    order = {"a/b": {"text": ""}, "a-b": {"text": ""}, "ab": {"text": ""}, "a b": {"text": ""}}
    yield signed("names", "names that are quoted, beyond ASCII, and in byte order", Package({**TREE, **names, **order}))
    origin = {"ai": AiOrigin(generated=True, model="m-1"), "source": SourceOrigin("https://example.com/w", "9f" * 20)}
    yield signed("origin", "what made the code, and where it comes from", Package(TREE, origin))
    bytecode = {"code/__pycache__/worker.cpython-311.pyc": {"base64": "AAECAw=="}}
    yield signed(
        "bytecode-listed", "bytecode as ordinary files", Package({**TREE, **bytecode}, {"bytecode": "include"})
    )
    yield from _awp1_passes()


def _expectation() -> dict[str, str]:
    return {"worker_id": WHO["worker_id"], "species_id": WHO["worker_species_id"]}


def tree_denials() -> Iterator[Case]:
    """Yield trees that differ from their manifest."""
    changes: list[tuple[str, str, str, str, Any]] = [
        (
            "modified",
            "one byte of a file",
            "code/worker.py",
            "modified",
            {"text": "def execute(request, context):\n    return Request\n"},
        ),
        ("truncated", "a file cut short", "code/worker.py", "modified", {"text": "def execute(request, context):\n"}),
        (
            "line-endings",
            "line endings converted",
            "code/worker.py",
            "modified",
            {"text": "def execute(request, context):\r\n    return request\r\n"},
        ),
        ("missing", "a file gone", "requirements.lock", "missing", None),
        ("added", "a file more", "code/sitecustomize.py", "added", {"text": ""}),
        (
            "added-nested-manifest",
            "a nested manifest.json is an ordinary file",
            "code/manifest.json",
            "added",
            {"text": "{}"},
        ),
        (
            "added-git",
            "what no exclude names",
            ".git/hooks/post-checkout",
            "added",
            {"text": "#!/bin/sh\n", "mode": "0755"},
        ),
        ("mode", "the execute bit lost", "bin/run", "mode", {"text": "#!/bin/sh\nexec python3 code/worker.py\n"}),
        ("mode-gained", "an execute bit more", "requirements.lock", "mode", {"text": "", "mode": "0755"}),
        ("link", "another target", "model.bin", "link", {"symlink": "requirements.lock"}),
        ("link-to-file", "a link that became a file", "model.bin", "kind", {"text": "weights/model-7.bin"}),
        ("file-to-link", "a file that became a link", "requirements.lock", "kind", {"symlink": "code/worker.py"}),
        ("directory-gone", "an empty directory gone", "cache", "missing", None),
        ("directory-added", "an empty directory more", "plugins", "added", {"directory": True}),
        ("directory-filled", "a file in an empty directory", "cache/x", "", {"text": ""}),
        (
            "bytecode",
            "bytecode beside the code",
            "code/__pycache__/worker.cpython-311.pyc",
            "bytecode",
            {"base64": "AAECAw=="},
        ),
        ("bytecode-file", "bytecode in place of a module", "code/os.pyc", "bytecode", {"base64": "AAECAw=="}),
    ]
    for name, why, path, change, node in changes:
        tree = {**TREE, path: node} if node is not None else {p: n for p, n in TREE.items() if p != path}
        found: tuple[tuple[str, str], ...] = ((path, change),)
        if path == "cache/x":
            del tree["cache"]
            found = (("cache", "missing"), ("cache/x", "added"))
        yield case(f"tree-{name}", why, "HASH_MISMATCH", tree=tree, differences=found)
    yield case("tree-fifo", "what is no file", "TREE_UNSAFE", tree={**TREE, "pipe": {"fifo": True}})
    yield case(
        "tree-link-out", "a link out of the package", "TREE_UNSAFE", tree={**TREE, "out": {"symlink": "../../etc"}}
    )
    yield case("tree-control", "a name with a newline", "TREE_UNSAFE", tree={**TREE, "a\nb": {"text": ""}})
    yield case(
        "tree-empty", "nothing left", "HASH_MISMATCH", tree={}, differences=tuple((path, "missing") for path in TREE)
    )


def manifest_denials() -> Iterator[Case]:
    """Yield manifests that are missing, changed, or signed and yet malformed."""
    yield case("manifest-missing", "no manifest", "MANIFEST_MISSING", manifest=None)
    yield case(
        "manifest-changed",
        "a manifest changed after it was signed",
        "SIG_INVALID",
        manifest=DATA.replace(b"1.4.0", b"1.4.1"),
    )
    line = b'"code/worker.py"'
    respelled = {
        "space": (b'"worker_id":"', b'"worker_id": "'),
        "no-newline": (b"}\n}\n", b"}\n}"),
        "crlf": (b"\n", b"\r\n"),
        "indented": (b"{\n", b"{\n  "),
        "unknown-field": (b'"excludes"', b'"signer":"me",\n"excludes"'),
        "missing-field": (b'"build_source":"ci",\n', b""),
        "twice": (b'"build_source":"ci",', b'"build_source":"ci",\n"build_source":"ci",'),
        "float": (b'"size":0', b'"size":0.0'),
        "nan": (b'"size":0', b'"size":NaN'),
        "schema": (b"awp.v2", b"awp.v3"),
        "worker-id": (b"org.acme.summarizer", b"org.acme.Summarizer"),
        "escaping-path": (line, b'"../worker.py"'),
        "absolute-path": (line, b'"/etc/worker.py"'),
        "dot-path": (line, b'"code/./worker.py"'),
        "escaped-path": (line, b'"code\\u002fworker.py"'),
        "link-out": (b'weights/model-7.bin"}', b'../model-7.bin"}'),
        "algorithm": (b'"hash_algorithm":"sha256"', b'"hash_algorithm":"sha1"'),
        "hash": (b'"package_hash":"', b'"package_hash":"0'),
        "upper-case-digest": (b'"sha256":"e3b0', b'"sha256":"E3B0'),
    }
    for name, (old, new) in respelled.items():
        data = DATA.replace(old, new) if name == "crlf" else DATA.replace(old, new, 1)
        if data == DATA:
            raise AssertionError(name)
        lines = hmac_line(_statement_over(data))
        yield case(
            f"manifest-{name}",
            "signed, but not in the one spelling",
            "MANIFEST_MALFORMED",
            manifest=data,
            signatures=lines,
        )
    for name, first, second in (("", "code/worker.py", "model.bin"), ("-directory", "bin/run", "cache")):
        data = _swapped(f'"{first}"'.encode(), f'"{second}"'.encode())
        lines = hmac_line(_statement_over(data))
        yield case(
            f"manifest-order{name}", "entries out of order", "MANIFEST_MALFORMED", manifest=data, signatures=lines
        )


def _swapped(first: bytes, second: bytes) -> bytes:
    """Return the manifest with the lines of two entries exchanged."""
    lines = DATA.split(b"\n")
    one = next(number for number, line in enumerate(lines) if line.startswith(first))
    other = next(number for number, line in enumerate(lines) if line.startswith(second))
    lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def _statement_over(data: bytes, **changes: Any) -> bytes:
    return PACKAGE.statement(manifest_sha256=sha256_hex(data), **changes)


def signature_denials() -> Iterator[Case]:
    """Yield signatures that are missing, malformed, wrong, or by the wrong signer."""
    good = PACKAGE.hmac_line()
    for name, data in (("missing", None), ("empty", b""), ("blank", b"\n")):
        yield case(f"signature-{name}", "no signature", "SIGNATURE_MISSING", signatures=data)
    malformed = {
        "not-json": b"not json\n",
        "array": b"[]\n",
        "no-envelope": b"{}\n",
        "truncated": good[: len(good) // 2],
        "two-lines-in-one": good.rstrip(b"\n") + good,
        "blank-line": good + b"\n" + good,
        "two-signatures": _edit(good, lambda line: line["signatures"].append(line["signatures"][0])),
        "no-signatures": _edit(good, lambda line: line.update(signatures=[])),
        "base64": good.replace(b'"payload":"', b'"payload":" ', 1),
        "base64-urlsafe": _edit(
            good, lambda line: line["signatures"][0].update(sig="_-" + line["signatures"][0]["sig"][2:])
        ),
        "unknown-field": _edit(good, lambda line: line.update(extra=1)),
        "other-bundle": PACKAGE.key_line("ed25519").replace(b"v0.3", b"v0.2"),
    }
    for name, data in malformed.items():
        yield case(f"signature-{name}", "a line that is malformed", "SIG_INVALID", signatures=data)
    yield case("signature-changed", "another tag", "SIG_INVALID", signatures=reenveloped(good, signature=bytes(32)))
    yield case("signature-short", "half a tag", "SIG_INVALID", signatures=reenveloped(good, signature=bytes(16)))
    payload = PACKAGE.statement(package_hash="0" * 64)
    yield case("signature-payload", "another payload", "SIG_INVALID", signatures=reenveloped(good, payload=payload))
    yield case(
        "signature-type", "another payload type", "SIG_INVALID", signatures=reenveloped(good, payload_type="text/plain")
    )
    signed_type = key_line("ed25519", PACKAGE.statement(), payload_type="application/json")
    yield case(
        "signature-type-signed",
        "signed, but no statement",
        "SIG_INVALID",
        signatures=signed_type,
        policy=policy(key("ed25519")),
    )
    confused = key_line("ed25519", PACKAGE.statement(), hint=key_id("p256"))
    yield case(
        "signature-confused", "the hint of another key", "SIG_INVALID", signatures=confused, policy=policy(key("p256"))
    )
    other = hmac_line(PACKAGE.statement(), "another secret of good length")
    yield case("signer-unknown-secret", "another secret", "SIGNER_UNTRUSTED", signatures=other)
    yield case(
        "signer-unknown-key",
        "another key",
        "SIGNER_UNTRUSTED",
        signatures=PACKAGE.key_line("ed25519-other"),
        policy=policy(key("ed25519")),
    )
    yield case(
        "signer-hmac-for-key", "a secret where a key is asked for", "SIGNER_UNTRUSTED", policy=policy(key("ed25519"))
    )
    yield case("threshold-not-met", "one of two", "THRESHOLD_NOT_MET", policy=policy(key("ed25519"), HMAC, threshold=2))
    yield case(
        "threshold-same-twice",
        "the same signer twice",
        "THRESHOLD_NOT_MET",
        signatures=good + PACKAGE.hmac_line(signed_at=SIGNED_AT + 1),
        policy=policy(key("ed25519"), HMAC, threshold=2),
    )


def _edit(line: bytes, change: Any) -> bytes:
    fields = json.loads(line)
    change(fields)
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def statement_denials() -> Iterator[Case]:
    """Yield statements that are signed and say something else."""

    def edited(change: Any) -> bytes:
        return hmac_line(_edit(PACKAGE.statement(), change).rstrip(b"\n"))

    wrong: dict[str, Any] = {
        "type": lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"),
        "predicate-type": lambda s: s.update(predicateType="https://slsa.dev/provenance/v1"),
        "no-subject": lambda s: s.update(subject=[]),
        "two-subjects": lambda s: s["subject"].append({"name": "other", "digest": {"sha256": "0" * 64}}),
        "subject-name": lambda s: s["subject"][0].update(name="code/worker.py"),
        "subject-sha512": lambda s: s["subject"][0].update(digest={"sha512": "0" * 128}),
        "extra-field": lambda s: s["predicate"].update(approved=True),
        "missing-field": lambda s: s["predicate"].pop("package_hash"),
        "time": lambda s: s["predicate"].update(signed_at_utc="yesterday"),
    }
    for name, change in wrong.items():
        yield case(f"statement-{name}", "signed, but not about this package", "SIG_INVALID", signatures=edited(change))
    other = PACKAGE.hmac_line(manifest_sha256="0" * 64)
    yield case("statement-other-manifest", "over another manifest", "SIG_INVALID", signatures=other)
    said = {
        "worker_id": "org.acme.other",
        "worker_species_id": "wrk.doc.other",
        "worker_version": "1.4.1",
        "package_hash": "0" * 64,
        "hash_algorithm": "blake3",
    }
    for name, value in said.items():
        yield case(
            f"statement-{name}",
            "says something else than the manifest",
            "MANIFEST_ID_MISMATCH",
            signatures=PACKAGE.hmac_line(**{name: value}),
        )


def policy_denials() -> Iterator[Case]:
    """Yield good packages that the policy or the caller does not take."""
    for field, value in (("worker_id", "org.acme.other"), ("species_id", "wrk.doc.other")):
        yield case(
            f"expect-{field}",
            "another worker than the caller expects",
            "MANIFEST_ID_MISMATCH",
            expect=((field, value),),
        )
    yield case(
        "namespace-unknown",
        "a namespace the policy does not know",
        "NAMESPACE_INVALID",
        policy=policy(name="org.other"),
    )
    yield case("namespace-prefix", "a namespace that begins alike", "NAMESPACE_INVALID", policy=policy(name="org.acm"))
    elsewhere = policy(key("ed25519")) + policy(name="org.other").removeprefix("version = 1\n")
    yield case("namespace-signer", "a signer of another namespace", "SIGNER_UNTRUSTED", policy=elsewhere)
    aged = policy(accept='max_age = "1d"')
    yield case("age", "a day old", now=SIGNED_AT + 86_400, policy=aged)
    yield case("age-expired", "a second more than a day old", "EXPIRED", now=SIGNED_AT + 86_401, policy=aged)
    yield case("age-future", "signed in an hour", "EXPIRED", now=SIGNED_AT - 3600)
    yield signed(
        "built-future", "built in the year 2999", Package(TREE, {"built_at": 32_472_144_000}), expected="ATTEST_EXPIRED"
    )
    git = Package({**TREE, ".git/HEAD": {"text": "ref: refs/heads/main\n"}})
    yield replace(
        signed("accept-excludes", "an exclude where none is accepted", git, policy=policy(accept="excludes = false")),
        expected="ATTEST_NOT_ACCEPTABLE",
    )
    yield case(
        "accept-schemas",
        "a schema that is not accepted",
        "NOT_ACCEPTABLE",
        policy=policy(accept='schemas = ["awp.v1"]'),
    )


V1 = policy(accept='schemas = ["awp.v1"]')
V1_FILES: Tree = {"code/a.py": {"text": "1"}, "code-x/b.py": {"text": "2"}, "code.txt": {"text": "3"}}
V1_ORDERS = {
    "bytes": ("code-x/b.py", "code.txt", "code/a.py"),
    "parts": ("code/a.py", "code-x/b.py", "code.txt"),
    "neither": ("code.txt", "code/a.py", "code-x/b.py"),
}


def _v1(order: str, **changes: Any) -> Awp1Manifest:
    records = "".join(f"{path}\n1\n{sha256_hex(V1_FILES[path]['text'].encode())}\n" for path in V1_ORDERS[order])
    facts = {
        **WHO,
        "package_hash": sha256_hex(records.encode()),
        "built_at_utc": "2026-11-22T14:00:00Z",
        "build_source": "ci",
    }
    return Awp1Manifest(**{**facts, **changes}).signed_with(SECRET.encode())


def _v1_case(name: str, why: str, code: str = "", **changes: Any) -> Case:
    return case(
        f"awp1-{name}",
        why,
        code,
        **{"tree": V1_FILES, "manifest": _v1("bytes").to_bytes(), "signatures": None, "policy": V1, **changes},
    )


def _awp1_passes() -> Iterator[Case]:
    yield _v1_case("bytes", "the predecessors' schema, paths in byte order")
    yield _v1_case(
        "parts", "the predecessors' schema, paths in order of their segments", manifest=_v1("parts").to_bytes()
    )
    lies = _v1("bytes").to_bytes().replace(b"namespace org.acme", b"namespace org.bank")
    yield _v1_case("unsigned-text", "what is unsigned may lie; it is not repeated", manifest=lies)


def awp1_denials() -> Iterator[Case]:
    """Yield packages of the predecessors' schema that are refused."""
    data = _v1("bytes").to_bytes()
    yield _v1_case("not-accepted", "a schema that the policy does not name", "SIGNATURE_MISSING", policy=policy())
    yield _v1_case("neither", "a third order", "HASH_MISMATCH", manifest=_v1("neither").to_bytes())
    yield _v1_case("modified", "a changed file", "HASH_MISMATCH", tree={**V1_FILES, "code.txt": {"text": "4"}})
    yield _v1_case("changed", "a changed field", "SIG_INVALID", manifest=data.replace(b'"1.4.0"', b'"1.4.1"'))
    unsigned = json.loads(data)
    del unsigned["signature_hmac_sha256"]
    yield _v1_case("unsigned", "no HMAC", "SIGNATURE_MISSING", manifest=json.dumps(unsigned).encode())
    yield _v1_case(
        "unknown-field",
        "a field more",
        "MANIFEST_MALFORMED",
        manifest=data.replace(b"{\n", b'{\n  "signer": "me",\n', 1),
    )
    yield _v1_case(
        "key-asked",
        "a secret where a key is asked for",
        "SIGNER_UNTRUSTED",
        policy=policy(key("ed25519"), accept='schemas = ["awp.v1"]'),
    )
    uncovered: dict[str, tuple[str, Any, str]] = {
        "git": (".git/hooks/pre-commit", {"text": ""}, "added"),
        "bytecode": ("code/__pycache__/a.cpython-311.pyc", {"text": ""}, "bytecode"),
        "nested-manifest": ("code/manifest.json", {"text": ""}, "added"),
        "link": ("more", {"symlink": "code"}, "link"),
        "empty-directory": ("plugins", {"directory": True}, "added"),
    }
    for name, (path, node, change) in uncovered.items():
        yield _v1_case(
            name,
            "what the old hash does not cover",
            "HASH_MISMATCH",
            tree={**V1_FILES, path: node},
            differences=((path, change),),
        )


FOREIGN: Tree = {"manifest.json": {"text": '{"manifest_version": 3}\n'}}


def _pair_nodes(prefix: str, package: Package) -> Tree:
    """The pair of a package as files of a tree."""
    return {
        f"{prefix}manifest.json": _node(package.manifest.to_bytes()),
        f"{prefix}manifest.sig": _node(package.hmac_line()),
    }


def placements() -> Iterator[Case]:
    """Yield packages whose pair lies elsewhere than beside, and what happens to a second pair."""
    folder = Package({**TREE, **FOREIGN}, {"placement": "folder"})
    yield signed("folder", "another program's manifest.json is an entry", folder, placement="folder")
    notes = Package({**TREE, ".wcp/notes.txt": {"text": "1"}}, {"placement": "folder"})
    yield signed("folder-notes", "what lies beside the pair in the folder is an entry", notes, placement="folder")
    changed = {**TREE, "manifest.json": {"text": "{}\n"}}
    yield signed(
        "folder-foreign-changed",
        "the other program's file was changed",
        folder,
        placement="folder",
        tree=changed,
        expected="ATTEST_HASH_MISMATCH",
        differences=(("manifest.json", "modified"),),
    )
    bare = Package(TREE, {"placement": "folder"})
    yield signed(
        "folder-pair-in-root",
        "a pair added in the root of a package that has one in the folder",
        bare,
        placement="folder",
        tree={**TREE, **_pair_nodes("", PACKAGE)},
        expected="ATTEST_HASH_MISMATCH",
        differences=(("manifest.json", "added"), ("manifest.sig", "added")),
    )
    yield case(
        "beside-empty-folder",
        "an empty folder .wcp is an entry that nobody listed",
        "HASH_MISMATCH",
        tree={**TREE, ".wcp": {"directory": True}},
        differences=((".wcp", "added"),),
    )
    yield case(
        "beside-link-folder",
        "a link called .wcp is no folder of a pair",
        "HASH_MISMATCH",
        tree={**TREE, ".wcp": {"symlink": "code"}},
        differences=((".wcp", "added"),),
    )
    other = key_line("ed25519-other", PACKAGE.statement())
    stranger = {".wcp/manifest.json": _node(DATA), ".wcp/manifest.sig": _node(other)}
    yield case(
        "beside-second-pair", "a stranger's pair in .wcp is read first", "SIGNER_UNTRUSTED", tree={**TREE, **stranger}
    )
    half = {".wcp/manifest.sig": _node(PACKAGE.hmac_line())}
    yield case("beside-half-a-pair", "a signature alone in .wcp", "MANIFEST_MISSING", tree={**TREE, **half})
    nested = Package({**TREE, **_pair_nodes("code/.wcp/", PACKAGE)})
    yield signed("nested-folder", "a .wcp below the root is an ordinary directory", nested)
    outside = Package(TREE, {"placement": "detached"})
    yield signed("detached", "the pair lies outside of the package", outside, placement="detached")
    covered = Package({**TREE, **_pair_nodes("", PACKAGE)}, {"placement": "detached"})
    yield signed("detached-over-a-pair", "a detached pair covers a pair inside", covered, placement="detached")
    yield signed(
        "detached-pair-added",
        "a pair added inside a package whose pair is detached",
        outside,
        placement="detached",
        tree={**TREE, **_pair_nodes("", PACKAGE)},
        expected="ATTEST_HASH_MISMATCH",
        differences=(("manifest.json", "added"), ("manifest.sig", "added")),
    )
    yield signed(
        "detached-unsigned",
        "no signature outside",
        outside,
        placement="detached",
        signatures=None,
        expected="ATTEST_SIGNATURE_MISSING",
    )


def every() -> tuple[Case, ...]:
    """Return all cases, each name once."""
    cases = (
        *passes(),
        *tree_denials(),
        *manifest_denials(),
        *signature_denials(),
        *statement_denials(),
        *policy_denials(),
        *awp1_denials(),
        *placements(),
    )
    if len({each.name for each in cases}) != len(cases):
        raise AssertionError("two cases have the same name")
    return cases
