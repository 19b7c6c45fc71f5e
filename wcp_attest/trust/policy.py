"""A trust policy as values. They cannot be empty and cannot contradict themselves."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from wcp_attest.base.errors import ConfigError, MachineError, NamespaceInvalid
from wcp_attest.base.identity import check_namespace
from wcp_attest.disk.directory import describe_os_error, is_machine_fault
from wcp_attest.disk.files import absolute
from wcp_attest.signing import SignedBy, SigstoreTrust

if TYPE_CHECKING:
    from collections.abc import Collection

    from wcp_attest.signing import TrustedSigner
    from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity
    from wcp_attest.trust.conditions import BanCheck

Schema = Literal["awp.v2", "awp.v1"]
SCHEMAS: tuple[Schema, ...] = get_args(Schema)
MAX_NAMESPACES = 10_000
MAX_NAMED = 5  # signers that a message lists
MAX_SIGNERS = 1_000  # of one namespace
MAX_LINKS = 40  # followed from one path, as Linux does


class Condition(Protocol):
    """A further condition of a policy, such as its ban lists or a registry.

    A condition that reads or writes files names them in an attribute `files`, an iterable of paths; `verify` refuses a
    package that holds one of them. One that asks a server by https says so in an attribute `remote`, and one that rests
    on the fetched root of a public Sigstore instance in `fetches_root`: then no package may hold the certificates that
    the environment names, nor the copy of that root, either.
    """

    def open(self, *, now: float) -> BanCheck:
        """Get ready to answer for packages.

        Args:
            now: the time to judge freshness by, in seconds since the epoch.

        Returns:
            What answers for packages at that time.

        Raises:
            BansUnusable: what the condition needs cannot be relied on.
        """


@dataclass(frozen=True, slots=True)
class Namespace:
    """Who may sign for a namespace.

    Attributes:
        name: `org.<name>` or `x.<name>`, matched exactly.
        keys: trusted keys and shared secrets.
        identities: trusted keyless signers.
        threshold: how many distinct ones of them must have signed.

    Raises:
        ConfigError: it is not a namespace, has no signers, lists one twice, or cannot meet its threshold.
    """

    name: str
    keys: tuple[TrustedSigner, ...] = ()
    identities: tuple[SigstoreIdentity, ...] = ()
    threshold: int = 1

    def __post_init__(self) -> None:
        check_namespace(self.name)
        signers = len(self.keys) + len(self.identities)
        if not 0 < signers <= MAX_SIGNERS:
            raise ConfigError(f"namespace {self.name} names {signers} signers; it needs 1 to {MAX_SIGNERS}")
        if len({key.key_id for key in self.keys}) + len(set(self.identities)) != signers:
            raise ConfigError(f"namespace {self.name} names the same signer twice; a signer counts once")
        if not 1 <= self.threshold <= signers:
            raise ConfigError(
                f"namespace {self.name}: a threshold of {self.threshold} with {signers} signers; use 1 to {signers}"
            )

    def others(self, entries: Collection[object]) -> str:
        """Return the names of the signers of the namespace that are not among some of its entries, for a message.

        Args:
            entries: keys and identities of this namespace.

        Returns:
            Up to `MAX_NAMED` names, with commas between them, and how many more there are.
        """
        names = [str(SignedBy(key_id=key.key_id)) for key in self.keys if key not in entries]
        names += [identity.label for identity in self.identities if identity not in entries]
        more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
        return ", ".join(names[:MAX_NAMED]) + more


@dataclass(frozen=True, slots=True)
class Accept:
    """What is acceptable from a trusted signer.

    Attributes:
        schemas: the manifest schemas, by name.
        excludes: whether a manifest may exclude anything from what it covers.
        max_age: the age of a signature in seconds beyond which it has expired; None for no limit.
        permissions: `strict` also denies entries that others may write, foreign owners and further hard links.

    Raises:
        ConfigError: no schema, an unknown one, or an age that is not positive.
    """

    schemas: tuple[Schema, ...] = ("awp.v2",)
    excludes: bool = True
    max_age: int | None = None
    permissions: Literal["normal", "strict"] = "normal"

    def __post_init__(self) -> None:
        if not self.schemas or not set(self.schemas) <= set(SCHEMAS):
            raise ConfigError(f"accept.schemas must name one or more of {', '.join(SCHEMAS)}")
        if self.max_age is not None and self.max_age <= 0:
            raise ConfigError("accept.max_age must be more than 0 seconds")
        if self.permissions not in {"normal", "strict"}:
            raise ConfigError("accept.permissions must be `normal` or `strict`")


@dataclass(frozen=True, slots=True)
class Policy:
    """Who is trusted for what.

    Attributes:
        namespaces: at least one, each named once.
        accept: what is acceptable from them.
        sigstore: what keyless verification needs.
        conditions: ban lists and the like, all of which must agree.
        digest: SHA-256 of the policy file, 64 lower-case hex digits; empty for a policy built in memory.
        content_digest: SHA-256 over `digest` and the digests of the key and root files that were read (not of secrets),
            in the same form; empty for a policy built in memory.
        files: paths of everything that the policy was read from and everything it will read or write: itself, keys,
            secrets, roots, certificates, ban lists, state. Files that keys, roots and conditions name are added here.

    Raises:
        ConfigError: there is no namespace, one is listed twice, or two different keys have one id.
    """

    namespaces: tuple[Namespace, ...]
    accept: Accept = field(default_factory=Accept)
    sigstore: SigstoreTrust = field(default_factory=SigstoreTrust)
    conditions: tuple[Condition, ...] = ()
    digest: str = ""
    content_digest: str = field(default="", compare=False)
    files: tuple[str, ...] = field(default=(), repr=False, compare=False)
    _named: tuple[str, ...] = field(init=False, repr=False, compare=False)
    _ways: dict[str, str | None] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.namespaces) <= MAX_NAMESPACES:
            raise ConfigError(f"the policy names {len(self.namespaces)} namespaces; it needs 1 to {MAX_NAMESPACES}")
        if len({namespace.name for namespace in self.namespaces}) != len(self.namespaces):
            raise ConfigError("the policy names a namespace twice; put its signers into one [[namespace]]")
        by_id: dict[str, TrustedSigner] = {}
        for key in self.keys:
            if by_id.setdefault(key.key_id, key) != key:
                raise ConfigError(f"two different keys or secrets of the policy have the id {key.key_id}; replace one")
        named = [*self.files, self.sigstore.file, *(getattr(key, "file", "") for key in self.keys)]
        for condition in self.conditions:
            named += getattr(condition, "files", ())
        ways: dict[str, str | None] = {}
        files = dict.fromkeys(
            place for path in named if path for place in (absolute(path), *_follow(absolute(path), ways))
        )
        for name, value in (("files", tuple(files)), ("_named", tuple(files)), ("_ways", ways)):
            object.__setattr__(self, name, value)

    def namespace(self, name: str) -> Namespace:
        """Return the namespace of that name.

        Args:
            name: `org.<name>` or `x.<name>`, compared exactly.

        Raises:
            NamespaceInvalid: the policy does not know it.
        """
        for namespace in self.namespaces:
            if namespace.name == name:
                return namespace
        known = ", ".join(namespace.name for namespace in self.namespaces[:5])
        raise NamespaceInvalid(f"the policy does not know the namespace {name}; it knows {known}")

    def check_outside(self, root: str | os.PathLike[str]) -> None:
        """Refuse to judge a package that holds something the policy was read from or will read.

        Each call checks every path by which such a file is reached, with one `lstat`. Links are followed again only
        when one of them has changed since the last call, or the environment names other files.

        Args:
            root: the package directory.

        Raises:
            ConfigError: it does.
            MachineError: this machine cannot tell.
        """
        root = os.fspath(root)
        try:
            package = os.stat(root)
        except (OSError, ValueError) as problem:
            _check_machine(root, problem)
            return  # nothing is there to hold anything; reading it will say so
        named = (*self.files, *self._named_by_environment())
        if named != self._named or not _lead_outside(self._ways, package):
            ways: dict[str, str | None] = {}
            for file in named:
                _follow(absolute(file), ways)
            object.__setattr__(self, "_named", named)
            object.__setattr__(self, "_ways", ways)
            _lead_outside(ways, package)

    def _named_by_environment(self) -> tuple[str, ...]:
        """Return what libraries read or write besides: certificates of servers, and the copy of a public root."""
        fetches_root = self.fetches_root
        if not fetches_root and not any(getattr(condition, "remote", False) for condition in self.conditions):
            return ()
        from wcp_attest.net.authorities import authority_files
        from wcp_attest.signing.sigstore.trusted_root import public_root_folders

        return (*authority_files(os.environ), *(public_root_folders() if fetches_root else ()))

    @property
    def fetches_root(self) -> bool:
        """Whether a signer is verified by the root of a public Sigstore instance, which is fetched."""
        return (bool(self.identities) and self.sigstore.trusted_root is None) or any(
            getattr(condition, "fetches_root", False) for condition in self.conditions
        )

    @property
    def keys(self) -> tuple[TrustedSigner, ...]:
        """The trusted keys and secrets of all namespaces."""
        return tuple(key for namespace in self.namespaces for key in namespace.keys)

    @property
    def identities(self) -> tuple[SigstoreIdentity, ...]:
        """The trusted keyless signers of all namespaces."""
        return tuple(identity for namespace in self.namespaces for identity in namespace.identities)


def _follow(path: str, ways: dict[str, str | None]) -> list[str]:
    """Follow a path link by link, as the kernel does.

    A link inside a package that leads to a key outside chooses a key as much as the key itself would. When you name
    `../key` in the package's own directory, nothing is looked up in the package, so it chooses nothing.

    Args:
        path: absolute.
        ways: every path that is passed is added: a link with its target; anything else with an empty text, or with
            None as long as nothing was looked up in it.

    Returns:
        The absolute paths by which the file is reached: each link on the way, and the place where it ends.
    """
    places: list[str] = []
    waiting = path.split(os.sep)[::-1]
    reached = os.sep
    ways.setdefault(reached, "")
    while waiting:
        name = waiting.pop()
        if name in {"", os.curdir}:
            continue
        if name == os.pardir:
            reached = os.path.dirname(reached)
            continue
        here = os.path.join(reached, name)
        if here not in ways:
            try:
                ways[here] = os.readlink(here)
            except (OSError, ValueError) as problem:
                _check_machine(here, problem)
                ways[here] = None  # no link, or nothing that could be read
        target = ways[here]
        if not target and next((each for each in reversed(waiting) if each not in {"", os.curdir}), "") != os.pardir:
            ways[here] = ""
        if not target or len(places) == MAX_LINKS:
            reached = here
            continue
        places.append(here)
        if target.startswith(os.sep):
            reached = os.sep
        waiting += target.split(os.sep)[::-1]
    return [*places, reached]


def _lead_outside(ways: dict[str, str | None], package: os.stat_result) -> bool:
    """Check that no path of `_follow` in which something is looked up, or which is read, is the package.

    Returns:
        Whether each link is still what it was; if not, the paths have to be followed again.

    Raises:
        ConfigError: one of them is the package.
        MachineError: this machine cannot tell.
    """
    same = True
    for path, target in ways.items():
        try:
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                same &= os.readlink(path) == target
                continue
        except (OSError, ValueError) as problem:
            _check_machine(path, problem)
            continue  # nothing is read through a path that is absent or closed
        same &= not target
        if target is not None and status.st_ino == package.st_ino and status.st_dev == package.st_dev:
            below = os.path.join(path, "")
            inside = next((each for each in reversed(ways) if each.startswith(below)), path)
            raise ConfigError(
                f"{inside!r} is inside the package. A package cannot choose its own policy, keys or ban lists; "
                "keep them elsewhere"
            )
    return same


def _check_machine(path: str, problem: OSError | ValueError) -> None:
    """Raise a MachineError where it is this machine that keeps a path from being looked at."""
    if is_machine_fault(problem):
        raise MachineError(f"cannot look for {path!r}: {describe_os_error(problem)}; nothing was decided") from None
