"""Without the libraries of an extra, the commands say which one to install, and leave nothing half made."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions
from typing import TYPE_CHECKING

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys
for name in {absent!r}:
    sys.modules[name] = None  # an import of it fails as where it is not installed
from wcp_route.cli import main
sys.argv = ["wcp-route", *{arguments!r}]
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("arguments", "absent", "extra"),
    [
        (("init", "hall"), ("sqlalchemy",), "wcp-attest[route]"),
        (("serve", "--demo", "hall"), ("sqlalchemy",), "wcp-attest[hall]"),
        (("serve", "--demo", "hall"), ("uvicorn",), "wcp-attest[hall]"),
    ],
)
def test_missing_extra_is_named_and_nothing_is_left(
    tmp_path: Path, arguments: tuple[str, ...], absent: tuple[str, ...], extra: str
) -> None:
    program = PROGRAM.format(absent=absent, arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2, done.stdout
    assert done.stderr == f"error: {absent[0]} is missing; {done.stderr.partition('; ')[2]}"
    assert extra in done.stderr
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []


def installed_by(extra: str) -> set[str]:
    """Return the distributions that `pip install wcp-attest[EXTRA]` brings along."""
    seen, waiting = set(), [Requirement(f"wcp-attest[{extra}]")]
    while waiting:
        asked = waiting.pop()
        if (asked.name, frozenset(asked.extras)) in seen:
            continue
        seen.add((asked.name, frozenset(asked.extras)))
        further = [Requirement(text) for text in distribution(asked.name).requires or ()]
        chosen = asked.extras or {""}
        waiting += [
            one for one in further if one.marker is None or any(one.marker.evaluate({"extra": e}) for e in chosen)
        ]
    return {canonicalize_name(name) for name, _ in seen}


def test_people_sign_in_where_only_the_extra_is_installed(tmp_path: Path) -> None:
    there = installed_by("hall")
    absent = tuple(
        module
        for module, owners in packages_distributions().items()
        if there.isdisjoint(map(canonicalize_name, owners))
    )
    assert {"pytest", "httpx"} <= set(absent)
    program = PROGRAM.format(absent=absent, arguments=("serve", "--demo", "hall", "--listen", "127.0.0.1:0"))
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stdout is not None
            base = re.search(r"http://127\.0\.0\.1:\d+", line := process.stderr.readline())
            assert base, line + process.stderr.read()
            rows = [process.stdout.readline().split() for _ in range(3)]
            with httpx.Client(base_url=base[0], timeout=30) as client:
                assert client.post("/signin", data={"token": rows[2][1]}).status_code == 303
                for path in ("/", "/decisions", "/approvals", "/workers", "/bans", "/metrics", "/openapi.json"):
                    assert client.get(path).status_code == 200, path
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
