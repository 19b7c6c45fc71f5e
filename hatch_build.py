"""Bring manual pages, completions and the SBOM into the wheel (PEP 770: `.dist-info/sboms/`)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ReleaseFiles(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's type parameter is its own matter
    """Write the files of scripts/release_files.py and name them to hatchling; not for an editable install."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to what the wheel holds."""
        if version == "editable":
            return
        script = Path(self.root, "scripts", "release_files.py")
        spec = importlib.util.spec_from_file_location("release_files", script)
        if spec is None or spec.loader is None:
            raise RuntimeError(f"{script} cannot be loaded")
        sys.dont_write_bytecode = True  # the checkout that is built from stays as it is
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        base = Path(tempfile.mkdtemp(prefix="wcp-attest-build-"))
        for name, text in module.files().items():
            path = base / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            if name == module.SBOM:
                build_data["sbom_files"].append(os.path.relpath(path, self.root))
            else:
                build_data["shared_data"][str(path)] = name
        self._base = base

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was written; the wheel has it."""
        del version, build_data, artifact_path
        if hasattr(self, "_base"):
            shutil.rmtree(self._base)
