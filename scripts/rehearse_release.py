"""Rehearse a release on this machine: `make rehearse`, some minutes.

    python scripts/rehearse_release.py [--whole]

It clones the last commit into build/rehearsal and prepares the clone as CONTRIBUTING.md says. Then it runs the commands
of the job `build` in .github/workflows/release.yml, in their order, as they stand there. Instead of the whole test
suite it runs the wheel's smoke test; with --whole it runs what the workflow runs. Signing and publishing need GitHub's
identity; tests/sigstore/test_release_provenance.py runs the signing step against a Sigstore instance on this machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLONE = ROOT / "build" / "rehearsal"
SUITE = ".ci/run"
SMOKE = "make setup && sh .ci/smoke"


def main(arguments: list[str]) -> int:
    """Rehearse; return the exit status."""
    import yaml

    if arguments not in ([], ["--whole"]):
        print("usage: rehearse_release.py [--whole]", file=sys.stderr)
        return 2
    shutil.rmtree(CLONE, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, CLONE], check=True)
    if (ROOT / "build/image").exists():  # the parts of the image are looked at by their hashes, wherever they come from
        shutil.copytree(ROOT / "build/image", CLONE / "build/image", ignore=shutil.ignore_patterns("root-*"))
    prepare = [sys.executable, "scripts/prepare_release.py"]
    subprocess.run([*prepare, "owner", "rehearsal"], cwd=CLONE, check=True)
    subprocess.run([*prepare, "index"], cwd=CLONE, check=True)
    changes = CLONE / "CHANGELOG.md"
    heading = re.compile(r"^(## \d+\.\d+\.\d+), .*$", re.MULTILINE)
    dated = heading.sub(rf"\1, {datetime.now(UTC):%Y-%m-%d}", changes.read_text(), count=1)
    changes.write_text(dated)
    who = ["-c", "user.name=rehearsal", "-c", "user.email=rehearsal@localhost"]
    subprocess.run(["git", *who, "commit", "--quiet", "--all", "--message", "Rehearse"], cwd=CLONE, check=True)
    environment = {**os.environ, "PATH": f"{CLONE}/.venv/bin:{os.environ['PATH']}", "TAG": "", "PYTHON": sys.executable}
    environment.pop("SOURCE_DATE_EPOCH", None)
    steps = yaml.safe_load((CLONE / ".github/workflows/release.yml").read_text())["jobs"]["build"]["steps"]
    for step in steps:
        script = step.get("run", "").strip()
        if not script:
            continue
        if script == SUITE and not arguments:
            script = SMOKE
        print(f"== {step.get('name', script)}", flush=True)
        if subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=CLONE, env=environment, check=False
        ).returncode:
            print("error: this step failed; the release would stop here", file=sys.stderr)
            return 1
    print("== The assets of the release, beside the signatures")
    for path in sorted((CLONE / "assets").iterdir()):
        print(f"{path.stat().st_size:>12,} bytes  {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
