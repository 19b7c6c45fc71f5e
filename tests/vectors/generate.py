"""Write every vector again: `make vectors`. The same code writes the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.vectors import keyless
from tests.vectors.by_key import by_key
from tests.vectors.cases import every
from tests.vectors.packages import private_keys, public_pem

HERE = Path(__file__).parent


def documents() -> dict[str, bytes]:
    """Return every file of the vectors by its path below this directory."""
    files = {f"keys/{name}.pub": public_pem(name) for name in private_keys()} | keyless.roots()
    for case in (*every(), *by_key(), *keyless.every()):
        text = json.dumps(case.to_json(), indent=1, ensure_ascii=True)
        files[f"cases/{case.name}.json"] = text.encode() + b"\n"
    return files


def main() -> None:
    """Write the files, and remove those that no case has any more."""
    files = documents()
    for folder in ("cases", "keys"):
        (HERE / folder).mkdir(exist_ok=True)
        for path in (HERE / folder).iterdir():
            if f"{folder}/{path.name}" not in files:
                path.unlink()
    for name, data in files.items():
        (HERE / name).write_bytes(data)


if __name__ == "__main__":
    main()
