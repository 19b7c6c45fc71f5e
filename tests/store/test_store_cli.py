"""`wcp-attest store` as a user runs it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.store.worlds import KEY, WORKER, make_package, resign
from wcp_attest.base.errors import ConfigError
from wcp_attest.cli import main
from wcp_attest.store import PackageStore

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMAS = Path(__file__).parents[2] / "wcp_attest" / "schemas"


@pytest.fixture
def call(own_place: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    key = own_place / "acme.pub"
    key.write_bytes(KEY.public_pem())
    trust = ["--public-key", str(key), "--namespace", "org.acme"]

    def run(verb: str, *arguments: object) -> tuple[int, str, str]:
        with_trust = trust if verb in {"add", "path"} or "--from" in arguments else []
        status = main(["store", verb, *with_trust, "--store", str(own_place / "store"), *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


@pytest.fixture
def fresh(own_place: Path) -> Path:
    return make_package(own_place / "fresh", now=time.time())


def as_json(text: str) -> Any:
    import jsonschema

    value = json.loads(text)
    jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{value['kind']}.json").read_text())).validate(value)
    return value


def test_add_path_list_and_remove(call: Callable[..., tuple[int, str, str]], fresh: Path) -> None:
    status, path, _ = call("add", fresh)
    assert status == 0
    assert call("path", WORKER) == (0, path, "")
    assert as_json(call("path", WORKER, "--format", "json")[1])["path"] == path.strip()
    entry = as_json(call("list", "--format", "json")[1])["entries"][0]
    assert (entry["worker_id"], entry["worker_version"], entry["state"]) == (WORKER, "1.4.0", "unverified")
    assert call("check")[0] == 0
    assert call("remove", entry["entry"][:8])[0] == 0
    assert call("list")[:2] == (0, "no entries\n")
    assert call("path", WORKER)[0] == 2


def test_what_is_refused_prints_no_path(call: Callable[..., tuple[int, str, str]], fresh: Path) -> None:
    call("add", fresh)
    (fresh / "more").write_text("x")
    status, out, err = call("add", fresh)
    assert (status, out) == (1, "")
    assert "ATTEST_HASH_MISMATCH" in err


def test_a_spoilt_entry_is_set_aside_and_made_anew(call: Callable[..., tuple[int, str, str]], fresh: Path) -> None:
    path = Path(call("add", fresh)[1].strip())
    for target in (path / "code", path / "code" / "worker_logic.py"):
        target.chmod(0o755)
    (path / "code" / "worker_logic.py").write_text("evil")
    status, out, err = call("check", "--from", fresh)
    assert status == 0, err
    assert "made anew" in out
    (path / "code").chmod(0o755)
    (path / "code" / "more.py").write_text("evil")
    assert call("check")[0] == 1
    assert call("list")[1] == "no entries\n"


def test_gc_keeps_the_newest_of_each_worker_and_what_is_young(
    call: Callable[..., tuple[int, str, str]], fresh: Path, own_place: Path
) -> None:
    for version in ("1.4.0", "1.5.0", "1.10.0"):
        resign(fresh, version, now=time.time())
        assert call("add", fresh)[0] == 0
    resign(fresh, "0.1.0", now=time.time(), worker="org.acme.other")
    call("add", fresh)
    states = {
        entry["worker_version"]: entry["state"]
        for entry in as_json(call("gc", "--keep", 1, "--dry-run", "--format", "json")[1])["entries"]
    }
    assert states == {"1.10.0": "kept", "1.5.0": "would go", "1.4.0": "would go", "0.1.0": "kept"}
    assert call("gc", "--keep", 1, "--older-than", "1h")[0] == 0
    assert len(as_json(call("list", "--format", "json")[1])["entries"]) == 4
    call("gc", "--keep", 1)
    left = as_json(call("list", "--format", "json")[1])["entries"]
    assert {entry["worker_version"] for entry in left} == {"1.10.0", "0.1.0"}
    assert call("gc")[0] == 2


@pytest.mark.parametrize(
    "arguments", [("remove", "zz"), ("path", "x"), ("add", "/nonexistent"), ("gc", "--older-than", "z")]
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: tuple[str, ...], call: Callable[..., tuple[int, str, str]], fresh: Path
) -> None:
    call("add", fresh)
    status, out, err = call(*arguments)
    assert status == 2 or arguments[0] == "add"
    assert "Traceback" not in err
    assert out == ""


def test_without_a_home_no_home_is_made(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("XDG_STATE_HOME", "WCP_ATTEST_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent-home-of-a-test")
    assert main(["store", "list"]) == 2
    assert "give --store" in capsys.readouterr().err
    assert not os.path.exists("/nonexistent-home-of-a-test")


def test_a_store_whose_path_is_an_empty_text_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "list", "--store", ""]) == 2
    assert "the value of --store is empty" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="empty text"):
        PackageStore("")
