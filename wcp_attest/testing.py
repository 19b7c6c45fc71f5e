"""Signed packages for the tests of programs that verify some. Never for production: the keys are made on the spot.

    pytest_plugins = ["wcp_attest.testing"]                  # in conftest.py

    def test_my_loader_refuses_a_changed_package(signed_packages):
        package = signed_packages({"code/main.py": "print('hello')"})
        (package.path / "code/main.py").write_text("print('evil')")
        assert not my_loader(package.path, package.policy)

Needs pytest for the fixture; `make_signed_package` works without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wcp_attest.base.identity import namespace_of
from wcp_attest.build import build_manifest
from wcp_attest.sign_package import sign
from wcp_attest.signing.key import KeySigner, generate
from wcp_attest.trust.policy import Namespace, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

FILES = {"code/main.py": "print('hello')\n", "requirements.lock": ""}


@dataclass(frozen=True, slots=True)
class SignedPackage:
    """A package that verifies under its policy.

    Attributes:
        path: the package directory.
        policy: trusts this signer alone for the worker's namespace.
        signer: the key that signed it.
        worker_id: who the worker is.
    """

    path: Path
    policy: Policy
    signer: KeySigner
    worker_id: str


def make_signed_package(
    root: Path,
    files: Mapping[str, str | bytes] = FILES,
    *,
    worker_id: str = "org.example.worker",
    worker_species_id: str = "wrk.example.worker",
    worker_version: str = "1.0.0",
    signer: KeySigner | None = None,
) -> SignedPackage:
    """Write a package, sign it, and return it with a policy under which it verifies.

    Args:
        root: a directory to make.
        files: contents by path, at least one.
        worker_id: three segments or more, `org.example.worker`.
        worker_species_id: its place in the taxonomy.
        worker_version: its version.
        signer: who signs; a new Ed25519 key by default.

    Raises:
        FileExistsError: `root` exists.
        ConfigError: an id or the version is malformed, or there are no files.
    """
    root.mkdir(parents=True)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    key = signer or generate()
    manifest = build_manifest(
        root, worker_id=worker_id, worker_species_id=worker_species_id, worker_version=worker_version
    )
    sign(root, [key], manifest=manifest)
    return SignedPackage(root, Policy((Namespace(namespace_of(worker_id), (key.trusted,)),)), key, worker_id)


try:
    import pytest
except ImportError:  # a program that only calls make_signed_package
    pass
else:

    @pytest.fixture
    def signed_packages(tmp_path: Path) -> Callable[..., SignedPackage]:
        """Return a function that makes signed packages below the test's temporary directory.

        It takes the arguments of `make_signed_package` but for the directory.
        """
        count = 0

        def make(*arguments: object, **options: object) -> SignedPackage:
            nonlocal count
            count += 1
            return make_signed_package(tmp_path / f"package-{count}", *arguments, **options)  # type: ignore[arg-type]

        return make
