"""What is signed verifies, here and by the verifier of `docs/format.md`; any change to it is refused by both."""

from __future__ import annotations

import base64
import os
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.vectors.packages import SECRET, materialise
from wcp_attest.base.errors import VerificationError
from wcp_attest.build import build_manifest
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.options import ReadOptions
from wcp_attest.disk.quick_check import is_exact
from wcp_attest.package.entries import path_problem, target_problem
from wcp_attest.sign_package import sign
from wcp_attest.signing.hmac import HmacSecret
from wcp_attest.trust.policy import Namespace, Policy
from wcp_attest.verification import verify

WHO: dict[str, Any] = {
    "worker_id": "org.acme.summarizer",
    "worker_species_id": "wrk.doc.summarizer",
    "worker_version": "1.4.0",
}
SIGNER = HmacSecret(SECRET.encode())
POLICY = Policy((Namespace("org.acme", keys=(SIGNER,)),))

_NAMES = st.one_of(
    st.sampled_from(["a", "a-", "a.b", "manifest.json", "manifest.sig", ".hidden", "code", "\u00e9", "e\u0301"]),
    st.text('ab-._ "\U0001f600z', min_size=1, max_size=4),
)
_PATHS = st.builds("/".join, st.lists(_NAMES, min_size=1, max_size=3)).filter(
    lambda path: path_problem(path) is None and path not in {"manifest.json", "manifest.sig"}
)
_CONTENTS = st.binary(max_size=30).map(lambda data: base64.b64encode(data).decode())
_NODES = st.one_of(
    st.builds(lambda data, mode: {"base64": data, "mode": mode}, _CONTENTS, st.sampled_from(["0644", "0755", "0600"])),
    st.builds(lambda target: {"symlink": target}, st.sampled_from(["a", "code/b", "..", "../a", "./a", "absent/x"])),
    st.just({"directory": True}),
)


def _plain(tree: dict[str, Any]) -> dict[str, Any]:
    """Leave out what cannot stand beside or inside the rest, and links that lead out."""
    kept = {}
    for path, node in tree.items():
        inside = any(other.startswith(path + "/") for other in tree)
        reserved = path.split("/")[0] in {"manifest.json", "manifest.sig"}
        out = "symlink" in node and target_problem(path, node["symlink"]) is not None
        if not inside and not reserved and not out:
            kept[path] = node
    return kept


trees = st.dictionaries(_PATHS, _NODES, min_size=1, max_size=7).map(_plain)


def page_verifier() -> Any:
    names: dict[str, Any] = {}
    page = (Path(__file__).parents[2] / "docs/format.md").read_text()
    for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(code, names)
    return names


PAGE = page_verifier()


def page_accepts(root: Path) -> bool:
    try:
        PAGE["verify"](str(root), PAGE["by_secret"](SECRET.encode()), "org.acme")
    except PAGE["Refused"]:
        return False
    return True


KINDS = ["delete", "append", "flip", "mode", "add", "folder", "bytecode", "link", "rename"]


def change(root: Path, choose: Any) -> None:
    """Change one thing of a tree."""
    paths = sorted(path for path in root.rglob("*") if path.parent != root or not path.name.startswith("manifest."))
    kind = choose.draw(
        st.sampled_from(["delete", "append", "flip", "mode", "add", "folder", "bytecode", "link", "rename"])
    )
    path = choose.draw(st.sampled_from(paths))
    plain = path.is_file() and not path.is_symlink()
    folder = path if path.is_dir() and not path.is_symlink() else path.parent
    if kind == "delete":
        shutil.rmtree(path) if folder == path else path.unlink()
    elif kind in {"append", "flip"}:
        assume(plain and (kind == "append" or path.stat().st_size))
        data = path.read_bytes()
        path.write_bytes(data + b"\0" if kind == "append" else bytes([data[0] ^ 1]) + data[1:])
    elif kind == "mode":
        assume(plain)
        path.chmod(path.stat().st_mode ^ 0o100 if path.stat().st_mode & 0o111 in {0, 0o100} else 0o644)
    elif kind == "rename":
        path.rename(path.with_name("renamed"))
    elif kind == "link":
        os.symlink("x", folder / "new")
    elif kind == "folder":
        (folder / "new").mkdir()
    else:
        (folder / {"add": "new", "bytecode": "new.pyc"}[kind]).write_bytes(b"")


@given(trees, st.data())
@settings(max_examples=examples(80))
def test_what_is_signed_verifies_and_no_change_of_it_does(tree: dict[str, Any], choose: st.DataObject) -> None:
    assume(any("base64" in node for node in tree.values()))
    with TemporaryDirectory() as folder:
        root = materialise(tree, Path(folder) / "package")
        manifest = build_manifest(root, **WHO, options=ReadOptions(allow_twins=True))
        sign(root, [SIGNER], manifest=manifest)
        assert verify(root, POLICY).ok
        check_tree(str(root), manifest)
        plain = all(path.isascii() and '"' not in path for path in tree)
        assert is_exact(str(root), manifest, "beside", ReadOptions()) is plain
        assert page_accepts(root)
        assert set(manifest.entries()) == set(tree)
        change(root, choose)
        assert not verify(root, POLICY).ok
        assert not is_exact(str(root), manifest, "beside", ReadOptions())
        with pytest.raises(VerificationError):
            check_tree(str(root), manifest)
        assert not page_accepts(root)
