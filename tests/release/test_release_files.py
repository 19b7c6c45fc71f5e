"""What the wheel brings beside the code: manual pages, completions, an SBOM; made from the commands and the lock."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import click
import pytest

from wcp_attest.cli.command_table import root as attest
from wcp_route.cli.root import root as route

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("release")
    subprocess.run([sys.executable, ROOT / "scripts" / "release_files.py", place], check=True, capture_output=True)
    return place


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    place = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1767225600"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (path,) = place.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_brings_all_of_it(base: Path, wheel: zipfile.ZipFile) -> None:
    names = {re.sub(r"^wcp_attest-[^/]+/(data/)?", "", name): name for name in wheel.namelist()}
    for path in base.rglob("*"):
        if path.is_file():
            name = path.relative_to(base).as_posix()
            held = names[f"sboms/{name}" if name.endswith(".cdx.json") else name]
            assert wheel.read(held) == path.read_bytes(), name
    assert sum(name.startswith("share/") for name in names) > 40
    assert [name for name in wheel.namelist() if ".dist-info/sboms/wcp-attest.cdx.json" in name]


def test_each_option_of_each_command_is_in_its_page(base: Path) -> None:
    for program, root in (("wcp-attest", attest), ("wcp-route", route)):
        context = click.Context(root)
        overview = (base / f"share/man/man1/{program}.1").read_text().replace("\\-", "-")
        for name in root.list_commands(context):
            assert f".BR {program}-{name} (1)" in overview
            page = (base / f"share/man/man1/{program}-{name}.1").read_text().replace("\\-", "-")
            command = root.get_command(context, name)
            assert command is not None
            each = [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
            for one in each:
                for parameter in one.params:
                    if isinstance(parameter, click.Option) and not parameter.hidden:
                        assert parameter.opts[0] in page, (name, parameter.name)


@pytest.mark.skipif(shutil.which("man") is None, reason="the pages were NOT read by man (Debian: man-db)")
def test_man_reads_the_pages_without_a_warning(base: Path) -> None:
    for page in sorted((base / "share/man/man1").glob("*.1"))[::6]:
        done = subprocess.run(
            ["man", "--warnings", "-E", "UTF-8", "-l", page], capture_output=True, text=True, check=False, timeout=60,
            env={"PATH": os.environ["PATH"], "MANWIDTH": "200", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), page.name
        assert "SYNOPSIS" in done.stdout


@pytest.mark.parametrize("program", ["wcp-attest", "wcp-route"])
def test_bash_completes_by_the_script(program: str, base: Path) -> None:
    script = base / "share/bash-completion/completions" / program
    function = f"_{program.replace('-', '_')}_completion"
    code = f'. "{script}"; COMP_WORDS=({program} ver); COMP_CWORD=1; {function} {program} ver; echo "${{COMPREPLY[*]}}"'
    done = subprocess.run(
        ["bash", "-c", code], capture_output=True, text=True, check=True, timeout=60,
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": "/nonexistent"},
    )  # fmt: skip
    assert ("verify" in done.stdout.split()) is (program == "wcp-attest"), done


@pytest.mark.parametrize(
    ("shell", "path"), [("zsh", "zsh/site-functions/_{}"), ("fish", "fish/vendor_completions.d/{}.fish")]
)
def test_the_scripts_of_other_shells_are_read_by_them(shell: str, path: str, base: Path) -> None:
    scripts = {program: base / "share" / path.format(program) for program in ("wcp-attest", "wcp-route")}
    for program, script in scripts.items():
        assert f"_{program.replace('-', '_').upper()}_COMPLETE" in script.read_text()
    if shutil.which(shell) is None:
        pytest.skip(f"the completions were NOT read by {shell}, which is not installed (Debian: {shell})")
    for script in scripts.values():
        subprocess.run([shell, "-n", script], check=True, timeout=60)


@pytest.fixture
def sbom(base: Path) -> Any:
    return json.loads((base / "wcp-attest.cdx.json").read_text())


def test_the_sbom_names_what_the_lock_names_with_its_digests(sbom: Any) -> None:
    lock = (ROOT / "requirements" / "run.txt").read_text()
    pins = set(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)", lock, re.MULTILINE))
    assert {(one["name"], one["version"]) for one in sbom["components"]} == pins
    digests = [value["value"] for one in sbom["components"] for value in one["properties"] if "sha256" in value["name"]]
    assert sorted(digests) == sorted(re.findall(r"sha256:([0-9a-f]{64})", lock))


def test_the_sbom_says_who_needs_whom(sbom: Any) -> None:
    refs = {one["bom-ref"] for one in sbom["components"]} | {sbom["metadata"]["component"]["bom-ref"]}
    needs = {row["ref"]: row["dependsOn"] for row in sbom["dependencies"]}
    assert set(needs) == refs
    assert {wanted for row in needs.values() for wanted in row} == refs - {sbom["metadata"]["component"]["bom-ref"]}
    own = needs[sbom["metadata"]["component"]["bom-ref"]]
    assert [ref.partition("@")[0] for ref in own][:3] == ["pkg:pypi/blake3", "pkg:pypi/click", "pkg:pypi/cryptography"]
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", sbom["serialNumber"])
