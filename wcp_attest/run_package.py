"""Use what was verified: a package from a store or a temporary copy, one module of it, and a clean environment.

with wcp_attest.verified("my-worker", policy) as package:
    logic = wcp_attest.load_module(package, "code/worker_logic.py")
    logic.execute(request, context)
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from wcp_attest.base.errors import ConfigError, TreeMismatch
from wcp_attest.disk import store_directory
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.files import read_bounded
from wcp_attest.package.entries import File
from wcp_attest.package.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest
from wcp_attest.store import PackageStore
from wcp_attest.store_entries import split_worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from wcp_attest.store import StoredPackage
    from wcp_attest.trust.policy import Policy

MAX_MODULE_BYTES = 16 * 1024 * 1024
TEMPORARY_PREFIX: Final = "wcp-attest-run-"

# Variables that make a loader, an interpreter or a shell run other code than the one that is named; and our secrets
# and the tokens of a CI job, with which a worker could sign in the job's name.
# fmt: off
_DANGEROUS_STARTS = (
    "LD_", "DYLD_", "WCP_ATTEST_", "NODE_", "PERL", "RUBY", "GEM_", "BUNDLE_", "JAVA", "_JAVA_", "JDK_JAVA_",
    "BASH_", "LUA_", "R_", "JULIA_", "PHP_INI_", "GUILE_", "DOTNET_", "CORECLR_", "COR_", "OPENSSL_", "GTK_",
    "GIO_", "QT_", "QML", "GST_", "MALLOC_", "GLIBC_", "CUDA_INJECTION", "CAML", "ERL_", "ELIXIR_", "GIT_",
    "ACTIONS_ID_TOKEN_REQUEST_", "WCP_ROUTE_", "PYTHON",
)
_DANGEROUS_NAMES = frozenset([
    "CLASSPATH", "GCONV_PATH", "ENV", "SHELLOPTS", "BASHOPTS", "PS4", "PROMPT_COMMAND", "CDPATH", "GLOBIGNORE",
    "IFS", "ZDOTDIR", "PHPRC", "LOCPATH", "NLSPATH", "HOSTALIASES", "RESOLV_HOST_CONF", "TCLLIBPATH",
    "OCAMLRUNPARAM", "SIGSTORE_ID_TOKEN",
])
# fmt: on
# Of Python's, only what changes no code: all others are taken away, those of later versions, too.
_HARMLESS_PYTHON = frozenset(
    [
        "PYTHONUNBUFFERED",
        "PYTHONUTF8",
        "PYTHONIOENCODING",
        "PYTHONHASHSEED",
        "PYTHONFAULTHANDLER",
        "PYTHONTRACEMALLOC",
        "PYTHONCOERCECLOCALE",
    ]
)


def environment_for(
    package: StoredPackage,
    environ: Mapping[str, str],
    *,
    keep: Iterable[str] = (),
    clean: bool = False,
    python_path: Iterable[str] = (),
) -> dict[str, str]:
    """Return the environment that a command from a package runs in.

    Args:
        package: the package.
        environ: what there is.
        keep: names that stay, also of variables that would be removed.
        clean: whether only PATH, HOME, LANG, TERM, TZ and the names of `keep` stay.
        python_path: directories of the package that Python imports from.

    Raises:
        ConfigError: a directory of `python_path` is not in the package.
    """
    kept = set(keep)
    found = {}
    for name, value in environ.items():
        dangerous = name in _DANGEROUS_NAMES or name.startswith(_DANGEROUS_STARTS)
        dangerous = dangerous and name not in _HARMLESS_PYTHON
        plain = name in {"PATH", "HOME", "LANG", "TERM", "TZ"} or not clean
        if name in kept or (plain and not dangerous):
            found[name] = value
    if "PATH" in found and "PATH" not in kept:  # an empty or relative place would be one below the package
        found["PATH"] = ":".join(place for place in found["PATH"].split(":") if place.startswith("/"))
    folders = _folders_of(package.path, python_path)
    if folders:
        found["PYTHONPATH"] = ":".join(folders)
    found.update({name: "1" for name in ("PYTHONDONTWRITEBYTECODE", "PYTHONSAFEPATH") if name not in kept})
    return {**found, "WCP_PACKAGE_ROOT": package.path, "WCP_PACKAGE_SHA256": package.verified.manifest_sha256}


def _folders_of(root: str, python_path: Iterable[str]) -> list[str]:
    """Return the paths of directories that are named relative to the package.

    Raises:
        ConfigError: one is not in the package.
    """
    folders = []
    for folder in python_path:
        path = os.path.normpath(os.path.join(root, folder))
        if os.path.commonpath([path, root]) != root or not os.path.isdir(path):
            raise ConfigError(f"--python-path {folder!r} is not a directory of the package")
        folders.append(path)
    return folders


def default_store(environ: Mapping[str, str]) -> str:
    """Return where a user's own store lies: below `XDG_STATE_HOME`, or below a home that exists.

    Raises:
        ConfigError: there is neither.
    """
    if environ.get("WCP_ATTEST_STORE"):
        return environ["WCP_ATTEST_STORE"]
    if environ.get("XDG_STATE_HOME"):
        return os.path.join(environ["XDG_STATE_HOME"], "wcp-attest", "store")
    home = environ.get("HOME", "")
    if home and os.path.isdir(home):
        return os.path.join(home, ".local", "state", "wcp-attest", "store")
    raise ConfigError("no place for a store: there is no home directory; give --store DIR, or --no-store")


@contextlib.contextmanager
def verified(
    root: str | os.PathLike[str],
    policy: Policy,
    *,
    store: PackageStore | str | os.PathLike[str] | None = None,
    **how: Any,
) -> Iterator[StoredPackage]:
    """Verify a package and hold the very bytes that were verified while the block runs.

    Args:
        root: the package directory, which is read in full each time; or, with a store, `org.acme.worker` or
            `org.acme.worker@1.4.0` for the newest entry of it that the policy allows.
        policy: who is trusted for what.
        store: a store, or its directory; None makes a temporary copy that is removed at the end.
        how: further arguments of `PackageStore.add`, or of `PackageStore.open` for a worker id.

    Yields:
        The package: `path` is where to run it from, `verified` the proof.

    Raises:
        VerificationError: it is refused.
        ConfigError: it cannot be read, or there is no such entry.
    """
    if store is None:
        place = temporary_place()
        try:
            with PackageStore(place, durable=False).add(root, policy, **how) as package:
                yield package
        finally:
            store_directory.remove_tree(place)
        return
    kept = store if isinstance(store, PackageStore) else PackageStore(store)
    with from_store(kept, os.fspath(root), policy, **how) as package:
        yield package


def from_store(store: PackageStore, root: str, policy: Policy, **how: Any) -> StoredPackage:
    """Return a package that a store holds, or adds now; `root` is a directory or a worker id, as for `verified`.

    Raises:
        VerificationError: it is refused.
        ConfigError: it cannot be read, or there is no such entry.
    """
    if os.path.lexists(root):
        wanted = {name: value for name, value in how.items() if name not in {"users", "require_hashed"}}
        return store.add(root, policy, **wanted)
    worker_id, version = split_worker(root)
    wanted = {name: value for name, value in how.items() if name != "attestation"}
    return store.newest(worker_id, version, policy, **wanted)


def temporary_place() -> str:
    """Make a directory for a temporary copy, which others may pass through but not list.

    Raises:
        ConfigError: it cannot be made.
    """
    import tempfile  # with what it imports, a third of what `run` adds to `verify`

    try:
        place = tempfile.mkdtemp(prefix=TEMPORARY_PREFIX)
        os.chmod(place, 0o711)  # noqa: S103  # the command may run as another user
    except OSError as problem:
        raise ConfigError(f"cannot make a temporary directory: {describe_os_error(problem)}; set TMPDIR") from None
    return place


def load_module(package: StoredPackage, path: str | os.PathLike[str]) -> ModuleType:
    """Import one Python module of a verified package, from bytes that are compared with the manifest once more.

    `sys.path` stays as it is, and so does every other module. Its name is `wcp_package_<hex>.<path with dots>`.

    Args:
        package: what `verified` or a store returned.
        path: of the module in the package, `code/worker_logic.py`, relative and with `/`.

    Raises:
        TreeMismatch: the file is not the one that was signed.
        ConfigError: the package has no such file.
    """
    pair = os.path.dirname(package.path)
    data = read_bounded(os.path.join(pair, MANIFEST_NAME), limit=MAX_MANIFEST_BYTES, what="the manifest")
    if hashlib.sha256(data).hexdigest() != package.verified.manifest_sha256:
        raise TreeMismatch("the manifest was replaced after it was verified")
    path = os.fspath(path)
    entry = Manifest.parse(data).entries().get(path)
    if not isinstance(entry, File):
        raise ConfigError(f"the package has no file {path!r}")
    source = read_bounded(os.path.join(package.path, path), limit=MAX_MODULE_BYTES, what="the module")
    if _digest(source, package.verified.hash_algorithm) != entry.digest:
        raise TreeMismatch(f"{path!r} was changed after it was verified")
    name = f"wcp_package_{package.verified.manifest_sha256[:16]}.{path.removesuffix('.py').replace('/', '.')}"
    module = ModuleType(name)
    module.__file__ = os.path.join(package.path, path)
    sys.modules[name] = module  # dataclasses and pickle look themselves up there
    try:
        exec(compile(source, module.__file__, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # it is verified
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _digest(data: bytes, algorithm: str) -> str:
    if algorithm == "sha256":
        return hashlib.sha256(data).hexdigest()
    from blake3 import blake3

    return str(blake3(data).hexdigest())
