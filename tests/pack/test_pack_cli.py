"""`pack`, `unpack` and `verify FILE` as a user types them."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import package, signed  # noqa: F401  # fixtures of the same names

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command

TRUST = ("--public-key", "acme.key.pub", "--worker-id", "org.acme.summarizer")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".zip", ".mcpb"])
def test_packs_verifies_and_unpacks(wcp: Command, signed: Path, suffix: str) -> None:  # noqa: F811
    packed = wcp("pack", signed.name, "-o", f"w{suffix}", "--format", "json")
    assert packed.status == 0
    assert packed.json["bytes"] == (wcp.folder / f"w{suffix}").stat().st_size
    verified = wcp("verify", f"w{suffix}", *TRUST, "--format", "json")
    assert (verified.status, verified.json["ok"]) == (0, True)
    assert wcp("unpack", f"w{suffix}", "out", *TRUST).status == 0
    assert wcp("verify", "out", *TRUST).status == 0


def test_a_changed_archive_is_refused_with_status_1(wcp: Command, signed: Path) -> None:  # noqa: F811
    assert wcp("pack", signed.name, "-o", "w.tar").status == 0
    data = bytearray((wcp.folder / "w.tar").read_bytes())
    at = data.index(b"return request")
    data[at] ^= 1
    (wcp.folder / "w.tar").write_bytes(data)
    for command in (("verify", "w.tar"), ("unpack", "w.tar", "out")):
        run = wcp(*command, *TRUST, "--format", "json")
        assert (run.status, run.json["code"]) == (1, "ATTEST_HASH_MISMATCH")
    assert not (wcp.folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("pack", "worker", "-o", "w.rar"), "does not say which archive"),
        (("pack", "worker"), "missing option"),
        (("pack", "worker", "-o", "worker/w.tar"), "inside the package"),
        (("pack", "absent", "-o", "w.tar"), "absent"),
        (("unpack", "acme.key", "out", *TRUST), "is no archive"),
        (("unpack", "absent.tar", "out", *TRUST), "absent.tar"),
        (("verify", "acme.key", *TRUST), "is no archive"),
        (("unpack", "w.tar", "worker", *TRUST), "exists already"),
        (("unpack", "w.tar", "no/such/out", *TRUST), "cannot write"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    wcp: Command,
    signed: Path,  # noqa: F811
    arguments: tuple[str, ...],
    says: str,
) -> None:
    assert wcp("pack", signed.name, "-o", "w.tar").status == 0
    before = sorted(path.name for path in wcp.folder.iterdir())
    run = wcp(*arguments)
    assert run.status == 2, run
    assert says in run.err
    assert "Traceback" not in run.err
    assert sorted(path.name for path in wcp.folder.iterdir()) == before


@pytest.mark.usefixtures("key")
def test_an_archive_of_something_unsigned_is_named_itself(wcp: Command) -> None:
    (wcp.folder / "plain.txt").write_text("x")
    with zipfile.ZipFile(wcp.folder / "plain.whl", "w") as archive:
        archive.write(wcp.folder / "plain.txt", "plain.txt")
    for command in (("verify", "plain.whl"), ("unpack", "plain.whl", "out")):
        run = wcp(*command, *TRUST, "--format", "json")
        assert (run.status, run.json["code"]) == (1, "ATTEST_MANIFEST_MISSING")
        assert "'plain.whl' holds no signed package" in run.json["message"]
