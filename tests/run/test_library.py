"""`verified` and `load_module`: hold verified bytes, and import one module from them."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import wcp_attest
from tests.store.worlds import NOW, STRANGER, WORKER, make_package, policy, remove
from wcp_attest.base.errors import SignerUntrusted, TreeMismatch

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGIC = "code/worker_logic.py"
CODE = "import dataclasses\n\n@dataclasses.dataclass\nclass Answer:\n    value: int = 42\n"


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="wcp-attest-test-"))
    yield folder
    remove(folder)


@pytest.fixture
def package(place: Path) -> Path:
    return make_package(place / "worker", code=CODE)


def test_a_temporary_copy_lives_as_long_as_the_block(
    package: Path, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with wcp_attest.verified(package, policy(), now=NOW) as held:
        assert Path(held.path, LOGIC).read_text() == CODE
        assert held.verified.worker_id == WORKER
        assert Path(held.path) != package
    assert not os.path.exists(held.path)
    assert list(place.glob("wcp-attest-run-*")) == []


def test_a_store_keeps_it_and_gives_it_back_by_worker_id(package: Path, place: Path) -> None:
    with wcp_attest.verified(package, policy(), store=place / "store", now=NOW) as first:
        pass
    with wcp_attest.verified(f"{WORKER}@1.4.0", policy(), store=place / "store", now=NOW) as second:
        assert second.path == first.path


def test_a_refusal_is_raised_before_the_block_runs(package: Path) -> None:
    with pytest.raises(SignerUntrusted), wcp_attest.verified(package, policy(signer=STRANGER), now=NOW):
        pytest.fail("the block ran")


def test_a_module_is_imported_and_the_path_stays_as_it_is(package: Path) -> None:
    before = list(sys.path)
    with wcp_attest.verified(package, policy(), now=NOW) as held:
        module = wcp_attest.load_module(held, LOGIC)
    assert module.Answer() == module.Answer(42)
    assert sys.path == before
    assert "worker_logic" not in sys.modules
    assert module.__name__.startswith("wcp_package_")


@pytest.mark.parametrize("what", [LOGIC, "../manifest.json"])
def test_a_module_that_changed_after_the_check_is_not_imported(what: str, package: Path) -> None:
    with wcp_attest.verified(package, policy(), now=NOW) as held:
        target = Path(held.path, what)
        for path in (target.parent, target):
            path.chmod(0o755)
        target.write_text("raise SystemExit('evil')\n")
        with pytest.raises(TreeMismatch):
            wcp_attest.load_module(held, LOGIC)


@pytest.mark.parametrize("path", ["code", "link", "code/none.py", "../manifest.json", "/etc/passwd", ""])
def test_what_is_no_file_of_the_package_is_not_imported(path: str, package: Path) -> None:
    with (
        wcp_attest.verified(package, policy(), now=NOW) as held,
        pytest.raises(wcp_attest.ConfigError, match="no file"),
    ):
        wcp_attest.load_module(held, path)


def test_a_module_that_fails_leaves_nothing_behind(place: Path) -> None:
    broken = make_package(place / "broken", code="raise ValueError('at import')\n")
    with wcp_attest.verified(broken, policy(), now=NOW) as held, pytest.raises(ValueError, match="at import"):
        wcp_attest.load_module(held, LOGIC)
    assert not [name for name in sys.modules if name.startswith("wcp_package_") and held.entry[:16] in name]
