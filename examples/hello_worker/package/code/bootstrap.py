"""Run the worker on one request: `python bootstrap.py '<json>'`, or with `--stdio` one JSON object in and one out."""

from __future__ import annotations

import json
import sys

sys.dont_write_bytecode = True  # a package that gained bytecode would no longer be what was signed

# After the line above, or its bytecode would be the first. It lies beside this file, not on the import path of tools.
from worker_logic import execute  # type: ignore[import-not-found]  # noqa: E402


def main() -> int:
    """Read a request, run, print the result."""
    text = sys.stdin.read() if sys.argv[1:] == ["--stdio"] else sys.argv[1]
    result = execute(json.loads(text))
    print(json.dumps(result))
    return 0 if result["status"] == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
