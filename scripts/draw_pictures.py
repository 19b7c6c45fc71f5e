"""Draw the pictures of the first page: a terminal in which commands really ran, and a chart of measured figures.

    python scripts/draw_pictures.py                    docs/pictures/terminal.svg and docs/pictures/performance.svg
    python scripts/draw_pictures.py --figures F.json   the chart from other figures, as `make bench` writes them

Both are plain SVG without scripts or fonts of others. What differs from run to run (digests, times) is cut short or
masked in the terminal, so that drawing again gives the same picture as long as the program says the same.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
FIGURES = ROOT / "benchmarks" / "published.json"
SETUP = (
    "wcp-attest init -q worker",
    "wcp-attest keygen -q acme.key --no-passphrase",
)
SHOWN = (
    (
        "wcp-attest sign worker --key acme.key --worker-id org.acme.summarizer \\\n"
        "    --species-id wrk.doc.summarizer --worker-version 1.4.0"
    ),
    "wcp-attest verify worker --public-key acme.key.pub --worker-id org.acme.summarizer",
    "printf '#' >> worker/code/worker_logic.py   # one byte",
    "wcp-attest verify worker --public-key acme.key.pub --worker-id org.acme.summarizer",
)
COLUMNS = 100
LINE = 19
COLOURS = {"1": "#f5f5f5", "2": "#9aa5b1", "31": "#ff8a80", "32": "#7ee0a0", "33": "#ffd479"}
BARS = ("wcp-attest verify", "sha256sum -P2", "model-signing verify")


def main() -> int:
    """Draw both."""
    parser = argparse.ArgumentParser(description="Draw the pictures of the first page.")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    parser.add_argument("--into", type=Path, default=PICTURES)
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    (options.into / "performance.svg").write_text(chart(json.loads(options.figures.read_bytes())))
    with tempfile.TemporaryDirectory() as folder:
        (options.into / "terminal.svg").write_text(terminal(recorded(folder)))
    return 0


def recorded(folder: str) -> list[str]:
    """Run the commands in a folder, and return what a terminal would show of them.

    Args:
        folder: an empty directory.
    """
    scripts = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "HOME": folder, "FORCE_COLOR": "1"}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NO_COLOR", None)
    lines: list[str] = []
    for command in (*SETUP, *SHOWN):
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if command in SETUP:
            done.check_returncode()
            continue
        lines += [f"\x1b[1m$ {line}" if n == 0 else f"\x1b[1m{line}" for n, line in enumerate(command.split("\n"))]
        lines += done.stdout.rstrip("\n").split("\n") if done.stdout else []
        if done.returncode:
            lines.append(f"\x1b[2m(exit status {done.returncode})")
        lines.append("")
    masked = [re.sub(r"(?<=sha256:)[0-9a-f]{64}", "…", line) for line in lines[:-1]]  # the key is new each time
    return [re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "2026-11-28T09:00:00Z", line) for line in masked]


def terminal(lines: list[str]) -> str:
    """Return lines with colour sequences as a picture of a terminal.

    Args:
        lines: as a program writes them to a terminal; longer ones than `COLUMNS` are cut.
    """
    height = LINE * len(lines) + 58
    rows = []
    for number, line in enumerate(lines):
        spans, colour, column = [], "#d5dbe1", 0
        for piece in re.split(r"(\x1b\[[0-9;]*m)", line):
            if piece.startswith("\x1b"):
                colour = COLOURS.get(piece[2:-1], "#d5dbe1")
            elif piece and column < COLUMNS:
                text = piece if column + len(piece) <= COLUMNS else piece[: COLUMNS - column - 1] + "…"
                column += len(text)
                spans.append(f'<tspan fill="{colour}">{html.escape(text)}</tspan>')
        rows.append(f'<text x="20" y="{50 + number * LINE}" xml:space="preserve">{"".join(spans)}</text>')
    said = "Terminal: a package is signed and verified; after one changed byte it is denied, and the file is named."
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 {height}" role="img" aria-label="{said}">\n'
        f'<rect width="880" height="{height}" rx="8" fill="#1b2127"/>\n'
        '<circle cx="22" cy="20" r="6" fill="#ff8a80"/><circle cx="42" cy="20" r="6" fill="#ffd479"/>'
        '<circle cx="62" cy="20" r="6" fill="#7ee0a0"/>\n'
        '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">\n'
        + "\n".join(rows)
        + "\n</g>\n</svg>\n"
    )


def chart(figures: dict[str, Any]) -> str:
    """Return the chart: seconds to verify 100,000 small files, ours beside others.

    Args:
        figures: as `make bench` writes them: for a corpus its series, each with `name` and `wall` seconds.
    """
    found = {one["name"]: statistics.median(one["wall"]) for one in figures["small"]}
    bars = [(name, found[name]) for name in BARS if name in found]
    longest = max(seconds for _, seconds in bars)
    rows = []
    for number, (name, seconds) in enumerate(bars):
        y, width = 62 + number * 38, max(3, round(560 * seconds / longest))
        fill = "#00806f" if name.startswith("wcp") else "#8a949e"
        rows.append(
            f'<text x="190" y="{y + 17}" text-anchor="end" fill="#20262c">{html.escape(name)}</text>'
            f'<rect x="200" y="{y}" width="{width}" height="24" fill="{fill}"/>'
            f'<text x="{208 + width}" y="{y + 17}" fill="#20262c">{seconds:.2f} s</text>'
        )
    machine = figures["machine"]
    peers = ", ".join(f"{name} {version}" for name, version in figures["peers"].items() if name != "openssl")
    note = f"{machine['cores']} cores, files in memory, medians; {peers}"
    said = "; ".join(f"{name} {seconds:.2f} seconds" for name, seconds in bars)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 210" role="img" '
        f'aria-label="Seconds to check 100,000 small files: {html.escape(said)}">\n'
        '<rect width="880" height="210" rx="8" fill="#ffffff"/>\n'
        '<g font-family="system-ui, sans-serif" font-size="15">\n'
        '<text x="20" y="34" font-size="17" fill="#20262c">Seconds to check 100,000 small files</text>\n'
        + "\n".join(rows)
        + f'\n<text x="20" y="192" font-size="13" fill="#55606a">{html.escape(note)}</text>\n</g>\n</svg>\n'
    )


if __name__ == "__main__":
    sys.exit(main())
