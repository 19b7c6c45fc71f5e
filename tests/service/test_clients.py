"""The example clients in TypeScript and Go: a dispatch, a hold that a person answers, a receipt of another key."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.js import MODULES
from tests.service.world import demo
from wcp_attest.signing.key import generate

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENTS = Path(__file__).parents[2] / "examples" / "clients"


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str], Path]]:
    folder = tmp_path_factory.mktemp("demo") / "hall"
    with demo(folder) as started:
        base, _, tokens = started.begun()
        yield base, tokens, folder


@pytest.fixture(scope="module", params=["typescript", "go"])
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Compile one of the clients, with its types checked."""
    folder = tmp_path_factory.mktemp("client")
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    if request.param == "go":
        if shutil.which("go") is None:
            pytest.skip("the Go client was NOT run: `go` is not installed (Debian: golang-go)")
        command = ["go", "build", "-o", str(folder / "route"), str(CLIENTS / "route.go")]
        made = [str(folder / "route")]
        environment |= {"GOFLAGS": "-mod=mod", "GO111MODULE": "off", "GOTOOLCHAIN": "local"}
    else:
        if shutil.which("node") is None or not (MODULES / "typescript").is_dir():
            pytest.skip("the TypeScript client was NOT run: install `node`, then run tests/js/install")
        (folder / "package.json").write_text('{"type": "module"}')
        command = ["node", str(MODULES / "typescript" / "bin" / "tsc"), "--strict", "--target", "es2022"]
        command += ["--module", "nodenext", "--types", "node", "--typeRoots", str(MODULES / "@types")]
        (folder / "route.ts").write_bytes((CLIENTS / "route.ts").read_bytes())
        command += ["--outDir", str(folder), str(folder / "route.ts")]
        made = ["node", str(folder / "route.js")]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def run(client: list[str], hall: tuple[str, dict[str, str], Path], capability: str, **more: str) -> Any:
    base, tokens, folder = hall
    environment = {"PATH": os.environ["PATH"], "HALL": base, "TOKEN": tokens["platform"], "AUDIT_TOKEN": tokens["ada"]}
    environment |= {"RECEIPT_KEY": str(folder / "receipts.key.pub"), **more}
    return subprocess.run(
        [*client, capability], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_a_client_routes_and_verifies_the_receipt(client: list[str], hall: tuple[str, dict[str, str], Path]) -> None:
    done = run(client, hall, "cap.doc.summarize")
    assert (done.returncode, done.stdout) == (0, "DISPATCH org.demo.summarizer receipt verified\n"), done.stderr


def test_a_client_refuses_a_receipt_of_another_key(
    client: list[str], hall: tuple[str, dict[str, str], Path], tmp_path: Path
) -> None:
    (tmp_path / "other.pub").write_bytes(generate().public_pem())
    done = run(client, hall, "cap.doc.summarize", RECEIPT_KEY=str(tmp_path / "other.pub"))
    assert (done.returncode, done.stdout, "not signed by the Hall's key" in done.stderr) == (1, "", True), done.stderr


def test_a_client_says_in_one_line_what_is_wrong(client: list[str], hall: tuple[str, dict[str, str], Path]) -> None:
    without = subprocess.run(client, capture_output=True, text=True, check=False, timeout=60)
    assert (without.returncode, without.stderr.count("\n"), "usage" in without.stderr) == (1, 1, True), without.stderr
    unreachable = run(client, hall, "cap.doc.summarize", HALL="http://127.0.0.1:9")
    assert (unreachable.returncode, unreachable.stderr.startswith("error: ")) == (1, True), unreachable.stderr
    assert unreachable.stderr.count("\n") == 1
    assert run(client, hall, "cap.no.rule").stdout == "DENY  receipt verified\n"


@pytest.mark.parametrize(("answer", "says"), [("approve", "receipt verified"), ("deny", "was not approved: denied")])
def test_a_client_waits_for_a_person(
    client: list[str], hall: tuple[str, dict[str, str], Path], answer: str, says: str
) -> None:
    base, tokens, _ = hall
    ada = {"authorization": f"Bearer {tokens['ada']}"}

    def person() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            waiting = httpx.get(f"{base}/wcp/approvals/pending", headers=ada, timeout=30).json()["pending"]
            for one in waiting:
                body = {"pending_approval_id": one["pending_approval_id"], "decision": answer, "reason": "seen"}
                httpx.post(f"{base}/wcp/approvals/resolve", headers=ada, json=body, timeout=30)
                return
            time.sleep(0.05)

    looking = threading.Thread(target=person)
    looking.start()
    done = run(client, hall, "cap.pay.transfer")
    looking.join()
    assert says in done.stdout + done.stderr
    assert done.returncode == (0 if answer == "approve" else 1)
