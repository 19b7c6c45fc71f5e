"""Bad input of every kind: one clear line, status 2 or a denial with its code; no traceback, no hang, no half file.

Every command runs under a timeout (`Command`), so a hang is a failure, and `Command` refuses tracebacks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.command import IDENTITY, TIMEOUT, WORKER, Command
from tests.forked import SCRIPT
from wcp_attest.base.digest import sha256_hex
from wcp_attest.package.statement import Statement
from wcp_attest.signing.key import KeySigner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRUST = ("--public-key", "acme.key.pub", *WORKER)
MIB = 1024 * 1024

# Root may read and write everything; without these two capabilities it is refused like anybody else.
UNPRIVILEGED = """
import ctypes, os, sys
prctl = ctypes.CDLL(None).prctl
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.argv[2], sys.argv[2:])
"""


def through(wcp: Command, wrapper: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command by way of a small program that changes the circumstances and then becomes it."""
    done = subprocess.run(
        [sys.executable, "-c", wrapper, *map(str, arguments)],
        cwd=wcp.folder,
        env=wcp.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def denial(wcp: Command, package: Path) -> str:
    """Verify, expect a denial with status 1, and return its code."""
    text = wcp("verify", package, *TRUST)
    run = wcp("verify", package, *TRUST, "--format", "json")
    assert (text.status, run.status) == (1, 1), run
    code: str = run.json["code"]
    assert code in text.out
    return code


def sign_anything(package: Path, key: Path, manifest: bytes) -> None:
    """Sign bytes that no honest tool would: what is refused then is refused for what it is, not for its signature."""
    honest = json.loads((package / "manifest.json").read_bytes())
    statement = Statement(
        manifest_sha256=sha256_hex(manifest),
        worker_id="org.acme.summarizer",
        worker_species_id="wrk.doc.summarizer",
        worker_version="1.4.0",
        package_hash=honest["package_hash"],
        hash_algorithm="sha256",
        signed_at_utc="2026-11-22T14:00:05Z",
    )
    signer = KeySigner.from_file_bytes(key.read_bytes())
    (package / "manifest.json").write_bytes(manifest)
    (package / "manifest.sig").write_bytes(signer.sign(statement.to_bytes()) + b"\n")


def header(manifest: bytes, **changes: Any) -> bytes:
    """Return a manifest with fields of its header changed, or removed by None, in the same layout."""
    fields = {**json.loads(manifest), **changes}
    lines = [
        f"{json.dumps(name)}:{json.dumps(value, separators=(',', ':'))}"
        for name, value in fields.items()
        if value is not None and name != "entries"
    ]
    entries = manifest[manifest.index(b'"entries"') :]
    return ("{\n" + ",\n".join(lines) + ",\n").encode() + entries


ENTRIES = b'"entries":{\n'

BAD_MANIFESTS: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda good: good[:-10],
    "half": lambda good: good[: len(good) // 2],
    "not json": lambda good: b"hello\n",
    "json of another kind": lambda good: b"[]\n",
    "a null": lambda good: b"null",
    "reformatted": lambda good: json.dumps(json.loads(good), indent=2).encode(),
    "with a byte order mark": lambda good: b"\xef\xbb\xbf" + good,
    "with CRLF": lambda good: good.replace(b"\n", b"\r\n"),
    "with something behind it": lambda good: good + b"{}\n",
    "a duplicate key": lambda good: good.replace(b'"worker_id"', b'"worker_id":"org.acme.a",\n"worker_id"', 1),
    "a duplicate entry": lambda good: good.replace(ENTRIES, ENTRIES + b'"code/bootstrap.py": {"directory":true},\n'),
    "NaN": lambda good: good.replace(b'"size":', b'"size":NaN,"x":', 1),
    "Infinity in the header": lambda good: good.replace(b'"1.4.0"', b"Infinity", 1),
    "a float size": lambda good: good.replace(b'"size":2', b'"size":2.0', 1),
    "a huge number": lambda good: good.replace(b'"size":', b'"size":9' + b"9" * 400, 1),
    "a worker id that is a number": lambda good: header(good, worker_id=7),
    "a worker id that is a list": lambda good: header(good, worker_id=["org.acme.summarizer"]),
    "a version that is an object": lambda good: header(good, worker_version={"a": 1}),
    "excludes that are a text": lambda good: header(good, excludes="*.tmp"),
    "excludes that hold a number": lambda good: header(good, excludes=[1]),
    "an ai that is true": lambda good: header(good, ai=True),
    "an empty source": lambda good: header(good, source={}),
    "an unknown schema": lambda good: header(good, schema_version="awp.v3"),
    "no schema": lambda good: header(good, schema_version=None),
    "a missing field": lambda good: header(good, package_hash=None),
    "an unknown field": lambda good: header(good, extra="x"),
    "an unknown field of ai": lambda good: header(good, ai={"generated": True, "x": "y"}),
    "no entries": lambda good: good[: good.index(b'"entries"')] + b'"entries":{\n\n}\n}\n',
    "not utf-8": lambda good: good.replace(b"code/bootstrap.py", b"code/bootstrap\xff.py"),
    "a header that is not utf-8": lambda good: good.replace(b"wrk.doc.summarizer", b"wrk.doc.summarize\xff"),
    "an absolute path": lambda good: good.replace(b'"code/bootstrap.py"', b'"/code/bootstrap.py"'),
    "a path that climbs": lambda good: good.replace(b'"code/bootstrap.py"', b'"code/../../x"'),
    "a path with a dot": lambda good: good.replace(b'"code/bootstrap.py"', b'"./code/bootstrap.py"'),
    "a path with an empty segment": lambda good: good.replace(b'"code/bootstrap.py"', b'"code//bootstrap.py"'),
    "a path with a backslash": lambda good: good.replace(b'"code/bootstrap.py"', rb'"code\\bootstrap.py"'),
    "a path with a newline": lambda good: good.replace(b'"code/bootstrap.py"', b'"code/boot\\nstrap.py"'),
    "a path with a zero byte": lambda good: good.replace(b'"code/bootstrap.py"', b'"code/boot\\u0000strap.py"'),
    "a path in another order": lambda good: good.replace(b'"code/bootstrap.py"', b'"zzz"'),
    "a link that climbs": lambda good: good.replace(ENTRIES, ENTRIES + b'"a": {"symlink":"../etc/passwd"},\n'),
    "a nested bomb": lambda good: b"[" * 100_000,
    "nested behind a good start": lambda good: header(good, ai=json.loads("[" * 60 + "]" * 60)),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_MANIFESTS)
def test_a_bad_manifest_is_denied_though_its_signature_holds(wcp: Command, signed: Path, key: Path, name: str) -> None:
    bad = BAD_MANIFESTS[name]((signed / "manifest.json").read_bytes())
    assert bad != (signed / "manifest.json").read_bytes()
    sign_anything(signed, key, bad)
    assert denial(wcp, signed) == "ATTEST_MANIFEST_MALFORMED"
    assert wcp("diff", signed).status == 1
    assert wcp("show", signed).status in {0, 2}


def test_what_is_signed_that_way_verifies_when_it_is_good(wcp: Command, signed: Path, key: Path) -> None:
    sign_anything(signed, key, (signed / "manifest.json").read_bytes())
    wcp.ok("verify", signed, *TRUST)


def _line(good: bytes) -> Any:
    return json.loads(good)


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


BAD_SIGNATURES: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda good: good[:-20],
    "not json": lambda good: b"hello\n",
    "a list": lambda good: b"[]\n",
    "an empty object": lambda good: b"{}\n",
    "not utf-8": lambda good: b"\xff" + good,
    "a byte order mark": lambda good: b"\xef\xbb\xbf" + good,
    "a blank line": lambda good: b"\n" + good,
    "a bad second line": lambda good: good + b"junk\n",
    "a duplicate key": lambda good: good.replace(b'{"mediaType"', b'{"mediaType":"x","mediaType"', 1),
    "NaN": lambda good: good.replace(b'"mediaType"', b'"x":NaN,"mediaType"', 1),
    "an unknown field": lambda good: _dump({**_line(good), "x": 1}),
    "another media type": lambda good: _dump({**_line(good), "mediaType": "application/json"}),
    "no envelope": lambda good: _dump({key: value for key, value in _line(good).items() if key != "dsseEnvelope"}),
    "an envelope that is a text": lambda good: _dump({**_line(good), "dsseEnvelope": "x"}),
    "no signature in it": lambda good: _dump(
        {**_line(good), "dsseEnvelope": {**_line(good)["dsseEnvelope"], "signatures": []}}
    ),
    "a payload that is no base64": lambda good: _dump(
        {**_line(good), "dsseEnvelope": {**_line(good)["dsseEnvelope"], "payload": "!!!"}}
    ),
    "a nested bomb": lambda good: b"[" * 1000 + b"\n",
    "sixty-five lines": lambda good: good * 65,
    "a line of two megabytes": lambda good: b'"' + b"x" * 2 * MIB + b'"\n',
}


@pytest.mark.parametrize("name", BAD_SIGNATURES)
def test_a_bad_signature_file_is_denied(wcp: Command, signed: Path, name: str) -> None:
    path = signed / "manifest.sig"
    path.write_bytes(BAD_SIGNATURES[name](path.read_bytes()))
    assert denial(wcp, signed) == "ATTEST_SIG_INVALID"


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\t\n"])
def test_a_signature_file_without_signatures_is_denied(wcp: Command, signed: Path, content: bytes) -> None:
    (signed / "manifest.sig").write_bytes(content)
    assert denial(wcp, signed) == "ATTEST_SIGNATURE_MISSING"


def replace_by_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link(path: Path) -> None:
    path.rename(path.parent.parent / path.name)
    path.symlink_to(path.parent.parent / path.name)


def make_sparse(size: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, size)


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("manifest.json", os.unlink, "ATTEST_MANIFEST_MISSING"),
        ("manifest.json", replace_by_fifo, "ATTEST_MANIFEST_MISSING"),
        ("manifest.json", replace_by_directory, "ATTEST_MANIFEST_MISSING"),
        ("manifest.json", replace_by_link, "ATTEST_MANIFEST_MISSING"),
        ("manifest.json", make_sparse(257 * MIB), "ATTEST_MANIFEST_MISSING"),
        ("manifest.json", make_sparse(0), "ATTEST_SIG_INVALID"),
        ("manifest.sig", os.unlink, "ATTEST_SIGNATURE_MISSING"),
        ("manifest.sig", replace_by_fifo, "ATTEST_SIGNATURE_MISSING"),
        ("manifest.sig", replace_by_directory, "ATTEST_SIGNATURE_MISSING"),
        ("manifest.sig", replace_by_link, "ATTEST_SIGNATURE_MISSING"),
        ("manifest.sig", make_sparse(17 * MIB), "ATTEST_SIGNATURE_MISSING"),
        ("code/bootstrap.py", replace_by_fifo, "ATTEST_TREE_UNSAFE"),
        ("code/bootstrap.py", replace_by_directory, "ATTEST_HASH_MISMATCH"),
        ("code/bootstrap.py", replace_by_link, "ATTEST_TREE_UNSAFE"),
        ("code/bootstrap.py", make_sparse(1 << 40), "ATTEST_HASH_MISMATCH"),
        ("code/bootstrap.py", os.unlink, "ATTEST_HASH_MISMATCH"),
    ],
)
def test_odd_files_are_denied_and_never_waited_for(
    wcp: Command, signed: Path, name: str, change: Callable[[Path], None], code: str
) -> None:
    change(signed / name)
    assert denial(wcp, signed) == code


@pytest.mark.parametrize("name", ["manifest.json", "manifest.sig", "code/bootstrap.py", "code"])
def test_what_cannot_be_read_is_denied(wcp: Command, signed: Path, name: str) -> None:
    (signed / name).chmod(0)
    done = through(wcp, UNPRIVILEGED, SCRIPT, "verify", signed, *TRUST, "--format", "json")
    (signed / name).chmod(0o700)
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == {
        "manifest.json": "ATTEST_MANIFEST_MISSING",
        "manifest.sig": "ATTEST_SIGNATURE_MISSING",
    }.get(name, "ATTEST_TREE_UNSAFE")


@pytest.mark.parametrize("command", ["verify", "diff", "hash", "build", "sign", "clean"])
@pytest.mark.parametrize("root", ["absent", "a file", "a link", ""])
def test_a_root_that_is_no_directory_decides_nothing(wcp: Command, signed: Path, command: str, root: str) -> None:
    (wcp.folder / "a file").write_text("x")
    (wcp.folder / "a link").symlink_to(signed)
    options = {"verify": TRUST, "sign": ("--key", "acme.key")}.get(command, ())
    run = wcp(command, root, *options)
    assert (run.status, run.out) == (2, "")
    assert run.err.count("\n") == 1


def test_an_empty_tree_is_no_package(wcp: Command, key: Path) -> None:
    (wcp.folder / "empty").mkdir()
    for arguments in (("build", "empty"), ("sign", "empty", "--key", key)):
        run = wcp(*arguments, *IDENTITY)
        assert run.status == 2
        assert run.err.startswith("error: ")
    assert list((wcp.folder / "empty").iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda root: os.mkfifo(root / "pipe"),
        lambda root: (root / "out").symlink_to("/etc/passwd"),
        lambda root: (root / "up").symlink_to("../../x"),
        lambda root: (root / "back\\slash").write_text("x"),
        lambda root: (root / "new\nline").write_text("x"),
        lambda root: (root / "esc\x1b[2J").write_text("x"),
        lambda root: open(os.fsencode(root) + b"/undecodable\xff", "w").close(),
        lambda root: os.chmod(root / "code/bootstrap.py", 0o4755),
        lambda root: [(root / name).write_text("x") for name in ("twin", "TWIN")],
    ],
    ids=["fifo", "absolute link", "climbing link", "backslash", "newline", "escape", "undecodable", "set-id", "twins"],
)
def test_a_tree_that_no_manifest_can_describe_is_not_signed(
    wcp: Command, package: Path, key: Path, change: Callable[[Path], object]
) -> None:
    change(package)
    run = wcp("sign", package, "--key", key, *IDENTITY)
    assert run.status == 1
    assert run.err.endswith("[ATTEST_TREE_UNSAFE]\n")
    assert run.err.count("\n") == 1
    assert not (package / "manifest.json").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", b"\xff\xfe", b"x" * 70_000, None],
    ids=["empty", "text", "broken pem", "binary", "large", "rsa"],
)
def test_a_key_that_is_none_or_of_another_type_is_refused(wcp: Command, signed: Path, content: bytes | None) -> None:
    public, private = content, content
    if content is None:
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric import rsa

        rsa_key = rsa.generate_private_key(65537, 2048)
        public = rsa_key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        private = rsa_key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    (wcp.folder / "bad.pub").write_bytes(public or b"")
    (wcp.folder / "bad").write_bytes(private or b"")
    before = (signed / "manifest.sig").read_bytes()
    for arguments in (("verify", signed, "--public-key", "bad.pub", *WORKER), ("sign", signed, "--key", "bad")):
        run = wcp(*arguments)
        assert run.status == 2
        assert run.err.startswith("error: ")
        assert run.err.count("\n") == 1
    assert (signed / "manifest.sig").read_bytes() == before


@pytest.mark.parametrize("path", ["/dev/zero", "fifo", "."])
def test_odd_files_for_keys_secrets_and_policies_are_refused_at_once(wcp: Command, signed: Path, path: str) -> None:
    os.mkfifo(wcp.folder / "fifo")
    for arguments in (
        ("verify", signed, "--public-key", path, *WORKER),
        ("verify", signed, "--hmac-file", path, *WORKER),
        ("verify", signed, "--policy", path),
        ("sign", signed, "--key", path),
        ("sign", signed, "--key", "acme.key", "--passphrase-file", path),
        ("init", "new", "--logic", path),
        ("show", path),
    ):
        if arguments == ("show", "."):
            continue
        assert wcp(*arguments).status == 2, arguments


@pytest.mark.parametrize("secret", ["", " " * 40, "sesame", "x" * 5000])
def test_a_secret_that_protects_nothing_is_refused(wcp: Command, package: Path, secret: str) -> None:
    (wcp.folder / "secret").write_text(secret)
    for arguments, env in (
        (("--hmac",), {"WCP_ATTEST_HMAC_KEY": secret}),
        (("--hmac-file", "secret"), {}),
    ):
        run = wcp("sign", package, *arguments, *IDENTITY, env=env)
        assert run.status == 2
        assert not secret.strip() or secret not in run.err
    assert not (package / "manifest.json").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "version = 1",
        "version = 2",
        "version = 1\nnamespace = []",
        'version = 1\n[[namespace]]\nname = "org.acme"\n',
        'version = 1\n[[namespace]]\nname = "org.acme"\nsigner = []\n',
        'version = 1\n[[namespace]]\nname = "org.acme"\nthreshold = 0\n[[namespace.signer]]\nkey = "acme.key.pub"\n',
        'version = 1\n[[namespace]]\nname = "org.acme"\nthreshold = 2\n[[namespace.signer]]\nkey = "acme.key.pub"\n',
        'version = 1\nx = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "acme.key.pub"\n',
        'version = 1\n[[namespace]]\nname = "*"\n[[namespace.signer]]\nkey = "acme.key.pub"\n',
        'version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "absent.pub"\n',
        'version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nsigstore = { issuer = "" }\n',
    ],
)
def test_a_policy_that_is_empty_or_wrong_trusts_nobody(wcp: Command, signed: Path, text: str) -> None:
    (wcp.folder / "policy.toml").write_text(text)
    for arguments in (("verify", signed, "--policy", "policy.toml"), ("policy", "check", "policy.toml")):
        run = wcp(*arguments, "--format", "json")
        assert run.status == 2
        assert run.json["error"] == "config"
        assert run.err.count("\n") == 1


# Writing: what stood there stands there still.


def state(package: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in package.iterdir() if path.is_file()}


def test_a_read_only_directory_loses_nothing(wcp: Command, signed: Path, key: Path) -> None:
    before = state(signed)
    signed.chmod(0o555)
    for arguments in (("build", signed, "--worker-version", "2"), ("sign", signed, "--key", key)):
        done = through(wcp, UNPRIVILEGED, SCRIPT, *arguments)
        assert done.returncode == 2
        assert "permission denied" in done.stderr
    signed.chmod(0o755)
    assert state(signed) == before


def test_a_clean_that_stops_half_way_says_what_it_removed(wcp: Command, package: Path) -> None:
    for folder in ("a", "closed"):
        (package / folder).mkdir()
        (package / folder / "left.pyc").touch()
    (package / "closed").chmod(0o555)
    done = through(wcp, UNPRIVILEGED, SCRIPT, "clean", package)
    (package / "closed").chmod(0o755)
    said = "error: cannot remove 'closed/left.pyc': permission denied; removed before that: 1 entry\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    assert [path.name for path in package.rglob("*.pyc")] == ["left.pyc"]


@pytest.mark.parametrize("limit", [0, 1, 100, 600])
def test_a_full_disk_loses_nothing(wcp: Command, signed: Path, key: Path, limit: int) -> None:
    before = state(signed)
    for arguments in (("build", signed, "--worker-version", "2"), ("sign", signed, "--key", key)):
        done = through(wcp, LIMITED, limit, SCRIPT, *arguments)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("error: cannot write ")
    done = through(wcp, LIMITED, min(limit, 10), SCRIPT, "keygen", "new.key", "--no-passphrase")
    assert done.returncode == 2
    assert state(signed) == before
    assert sorted(path.name for path in wcp.folder.iterdir()) == ["acme.key", "acme.key.pub", "worker"]


FULL_DISK = """
set -e
mount -t tmpfs -o size=64k tmpfs disk
cp -r worker disk/worker
dd if=/dev/zero of=disk/ballast bs=1k count=64 2>/dev/null || true
cat disk/worker/manifest.json disk/worker/manifest.sig > before
status=0; "$1" sign disk/worker --key acme.key || status=$?
ls -A disk/worker > names
cat disk/worker/manifest.json disk/worker/manifest.sig > after
exit $status
"""


def test_a_really_full_disk_loses_nothing(wcp: Command, signed: Path) -> None:
    (wcp.folder / "disk").mkdir()
    probe = subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount -t tmpfs tmpfs disk"], cwd=wcp.folder, capture_output=True, check=False
    )
    if probe.returncode != 0:
        pytest.skip("a file system of our own cannot be mounted here")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", FULL_DISK, "sh", SCRIPT],
        cwd=wcp.folder, env=wcp.environment(), capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "no space left on device" in done.stderr
    assert (wcp.folder / "before").read_bytes() == (wcp.folder / "after").read_bytes()
    assert sorted((wcp.folder / "names").read_text().split()) == sorted(path.name for path in signed.iterdir())


# Interrupt the process by a real signal at its Nth step that touches the directory in question.
INTERRUPTER = """
import os, signal, sys
step, folder = int(sys.argv[1]), sys.argv[2]
steps = 0
def hook(event, arguments):
    global steps
    if event in {"open", "os.rename", "os.remove", "os.scandir", "os.listdir"} and arguments:
        name = arguments[0]
        if isinstance(name, bytes):
            name = os.fsdecode(name)
        if isinstance(name, str) and name.startswith(folder):
            steps += 1
            if steps == step:
                os.kill(os.getpid(), signal.SIGINT)
from wcp_attest.cli import main
sys.addaudithook(hook)
status = main(sys.argv[3:])
print(steps, file=sys.stderr)
sys.exit(status)
"""


def test_an_interrupt_at_any_step_of_signing_leaves_whole_files(wcp: Command, signed: Path, key: Path) -> None:
    old = state(signed)
    seen = set()
    for step in range(1, 200):
        for name, data in old.items():
            (signed / name).write_bytes(data)
        done = through(wcp, INTERRUPTER, step, signed, "sign", signed, "--key", key, "--worker-version", "2")
        now = state(signed)
        assert now.keys() == old.keys()
        for name in ("manifest.json", "manifest.sig"):
            assert now[name] == old[name] or (now[name].endswith(b"}\n") and len(now[name]) >= len(old[name]) - 20)
        json.loads(now["manifest.json"])
        seen.add(done.returncode)
        if int(done.stderr.split()[-1]) < step:
            assert done.returncode == 0
            assert step > 5
            break
        assert done.returncode == 130, done.stderr
    assert seen == {0, 130}
    wcp.ok("verify", signed, *TRUST)


def test_an_interrupt_at_any_step_of_keygen_leaves_both_files_or_none(wcp: Command) -> None:
    folder = wcp.folder / "keys"
    folder.mkdir()
    for step in range(1, 50):
        done = through(wcp, INTERRUPTER, step, folder, "keygen", folder / "k", "--no-passphrase")
        names = sorted(path.name for path in folder.iterdir())
        if int(done.stderr.split()[-1]) < step:
            assert (done.returncode, names) == (0, ["k", "k.pub"])
            return
        assert (done.returncode, names) == (130, [])
    raise AssertionError("keygen does not come to an end")
