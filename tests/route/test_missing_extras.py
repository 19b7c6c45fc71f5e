"""Without the libraries of an extra, the commands say which one to install, and leave nothing half made."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

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
