"""The `[bans]` table of a trust policy.

    [bans]
    max_age = "24h"                          # since its issue; after that a list is stale, also when it expires later
    threshold = 1                            # distinct signers of the list below
    refresh = "5m"                           # how long a kept copy is used before the source is asked again
    timeout = "20s"                          # in which a source has to bring its whole list
    state = "/var/lib/wcp-attest/bans"       # what was seen before, and kept copies; for one user
      [[bans.signer]]                        # as in [[namespace]]: key, hmac or sigstore
      key = "keys/soc.pub"
      [[bans.source]]
      file = "bans.json"                     # beside the policy; signatures in bans.json.sig
      compiled = "bans.idx"                  # optional, made by `wcp-attest ban compile`
      [[bans.source]]
      file = "own-bans.json"
      signed = false                         # the operator's own; no other user may be able to write it
      [[bans.source]]
      url = "https://acme.example/bans.json"
      [[bans.source]]
      [bans.source.tuf]
      metadata = "https://tuf.acme.example/metadata"
      targets = "https://tuf.acme.example/targets"
      root = "tuf-root.json"
      target = "bans.json"
      [[bans.source]]
      registry = "https://registry.example"
      signed = false                         # a registry signs nothing: only its host name is checked

Every source is asked about every package. When a source brings no admitted list, the package is denied.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import BansUnusable, ConfigError, MachineError
from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity
from wcp_attest.trust.bans.ban_check import Bans
from wcp_attest.trust.bans.feeds import DEFAULT_TIMEOUT
from wcp_attest.trust.bans.feeds.file_feed import FileFeed
from wcp_attest.trust.bans.held_lists import HeldLists, ListRefresher
from wcp_attest.trust.bans.list_verifier import ListVerifier
from wcp_attest.trust.bans.rollback_guard import SEEN_NAME, RollbackGuard
from wcp_attest.trust.bans.signed_list import SIGNATURE_SUFFIX, ListSigners

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wcp_attest.base.toml_table import Table
    from wcp_attest.signing import SigstoreTrust, TrustedSigner
    from wcp_attest.trust.bans.feeds import Feed, VerifiedList
    from wcp_attest.trust.bans.lookup import BanIndex
    from wcp_attest.trust.policy import Policy

STATE_VARIABLE: Final = "WCP_ATTEST_STATE_DIR"
DEFAULT_REFRESH: Final = 300  # seconds: how long a new ban takes to arrive at most
MAX_SOURCES: Final = 32
MAX_TIMEOUT: Final = 600  # seconds
MAX_ROOT_BYTES: Final = 512_000  # of a TUF root, as python-tuf takes
_KINDS: Final = ("file", "url", "tuf", "registry")


@dataclass(frozen=True, slots=True)
class BansCondition:
    """The ban lists that a policy asks for; a `Condition`.

    Attributes:
        feeds: at least one, all of which are consulted.
        signers: who may sign lists; None where no feed's list is signed.
        max_age: seconds since its issue after which a list is stale.
        state: the state directory.

    Raises:
        ConfigError: there is no feed, or one is named twice.
    """

    feeds: tuple[Feed, ...]
    signers: ListSigners | None
    max_age: int
    state: str
    _memo: dict[str, BanIndex] = field(default_factory=dict, repr=False, compare=False)
    _lists: HeldLists = field(default_factory=HeldLists, repr=False, compare=False)
    _last: list[Bans] = field(default_factory=list, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < len(self.feeds) <= MAX_SOURCES:
            raise ConfigError(f"[bans] needs 1 to {MAX_SOURCES} [[bans.source]]")
        if len({feed.name for feed in self.feeds}) != len(self.feeds):
            raise ConfigError("[bans] names a source twice")

    @property
    def fetches_root(self) -> bool:
        """Whether signers of lists are verified by the root of a public Sigstore instance, which is fetched."""
        signers = self.signers
        return signers is not None and bool(signers.identities) and signers.sigstore.trusted_root is None

    @property
    def files(self) -> tuple[str, ...]:
        """Every file and directory that the lists are read from or kept in."""
        named = [self.state]
        for feed in self.feeds:
            for attribute in ("path", "compiled", "ca_file", "directory"):
                path = getattr(feed, attribute, None)
                if path:
                    named += [path, path + SIGNATURE_SUFFIX] if attribute == "path" else [path]
        if self.signers is not None:
            named += [self.signers.sigstore.file, *(getattr(key, "file", "") for key in self.signers.keys)]
        return tuple(filter(None, named))

    def open(self, *, now: float) -> Bans:
        """Get every list. One that did not change since the last call costs a few microseconds (`held_lists`).

        Keep the policy, and with it this condition, for as long as the program runs; several threads may share it.

        Args:
            now: seconds since the epoch.

        Returns:
            The lists, verified.

        Raises:
            BansUnusable: a source brings no list that can be used.
        """
        seen, verifier = os.path.join(self.state, SEEN_NAME), partial(self.verifier_at, now=now)
        return Bans([self._lists.get(feed, verifier, now=now, state=seen) for feed in self.feeds])

    def held(self, *, now: float) -> Bans | None:
        """Return what `open` would, if each list is held and may be used as it is; else None.

        No file is opened and no server is asked, so this never waits.

        Args:
            now: seconds since the epoch.
        """
        seen = f"{self.state}/{SEEN_NAME}"
        found: list[VerifiedList] = []
        for feed in self.feeds:
            verified = self._lists.held(feed, now=now, state=seen)
            if verified is None:
                return None
            found.append(verified)
        last = self._last[0] if self._last else None  # made again only when a list differs (bar: bans, route.py)
        if last is None or any(one is not other for one, other in zip(last.opened, found, strict=True)):
            last = Bans(found)
            self._last[:] = [last]
        return last

    @property
    def remote(self) -> bool:
        """Whether a source lies behind a network."""
        return any(feed.remote for feed in self.feeds)

    @property
    def refresh_seconds(self) -> float:
        """How long the list of a source behind a network is used before it is asked again, the shortest of all."""
        return min((getattr(feed, "refresh", DEFAULT_REFRESH) for feed in self.feeds if feed.remote), default=math.inf)

    def refresh(self, *, now: float | None = None) -> tuple[str, ...]:
        """Ask every source behind a network now, also those whose list is held.

        Args:
            now: seconds since the epoch; the clock by default.

        Returns:
            Why sources brought no list, one text each; empty when all did. What is held stays in use while it is fresh.
        """
        problems: list[str] = []
        verifier = self.verifier_at(now=time.time() if now is None else now)
        for feed in self.feeds:
            if not feed.remote:
                continue
            try:
                note = self._lists.refresh(feed, verifier, os.path.join(self.state, SEEN_NAME)).note
            except (BansUnusable, MachineError) as problem:
                note = str(problem)
            if note:
                problems.append(note)
        return tuple(problems)

    def refresher(self, every: float = DEFAULT_REFRESH) -> ListRefresher:
        """Return what asks the sources in the background, so that no verification ever waits for a server.

            with condition.refresher(every=60):       # a Hall: for as long as it serves
                …

        Args:
            every: seconds between two rounds, at least one; how long a new ban takes to arrive at most. A source whose
                own `refresh` is longer is asked no sooner than that.
        """
        return ListRefresher(self.refresh, self._lists, every)

    def verifier_at(self, *, now: float) -> ListVerifier:
        """Return the conditions of this moment.

        Args:
            now: seconds since the epoch.
        """
        return ListVerifier(self.signers, self.max_age, RollbackGuard(self.state), now, self._memo)


def load_bans(policy: Policy, *, now: float | None = None) -> Bans:
    """Get every list that a policy asks for, to look packages up that were verified earlier.

    Args:
        policy: with a `[bans]` table.
        now: the time to judge freshness by, in seconds since the epoch; the clock by default.

    Returns:
        The lists, verified.

    Raises:
        BansUnusable: a list cannot be relied on.
        ConfigError: the policy has no `[bans]` table, so nothing is known of bans.
    """
    conditions = [condition for condition in policy.conditions if isinstance(condition, BansCondition)]
    if not conditions:
        raise ConfigError("the policy has no [bans], so nothing is known about who is banned")
    moment = time.time() if now is None else now
    return Bans([opened for condition in conditions for opened in condition.open(now=moment).opened])


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """What the reader of a policy knows beside the `[bans]` table.

    Attributes:
        folder: of the policy file; names of files are relative to it.
        environ: the environment.
        read: returns the bytes of a file the policy names; takes its name, the largest size and what it is.
        signer: reads one `[[bans.signer]]`, as the policy reads `[[namespace.signer]]`.
        sigstore: what keyless verification rests on.
    """

    folder: str
    environ: Mapping[str, str]
    read: Callable[[str, int, str], bytes]
    signer: Callable[[Table], TrustedSigner | SigstoreIdentity]
    sigstore: SigstoreTrust


def parse_bans_table(table: Table, inputs: PolicyInputs) -> BansCondition:
    """Read the `[bans]` table.

    Args:
        table: the table; keys that are left over in it are refused here.
        inputs: what the reader of the policy knows beside the table.

    Returns:
        The condition. No list is read yet.

    Raises:
        ConfigError: it is malformed, empty or contradicts itself, or a file it pins cannot be read.
    """
    # 1  Where what was seen is kept, and the times.
    if "state" in table:
        state = _in_existing_folder(table.path("state", inputs.folder), "`state` in [bans]")
    else:
        state = state_directory(inputs.environ)
    refresh = table.age("refresh") if "refresh" in table else DEFAULT_REFRESH
    max_age = table.age("max_age")
    timeout = table.age("timeout") if "timeout" in table else int(DEFAULT_TIMEOUT)
    if timeout > MAX_TIMEOUT:
        raise table.wrong("timeout", f"at most {MAX_TIMEOUT}s")
    # 2  The sources, and who signs their lists.
    feeds = tuple(_feed(source, inputs, state, refresh, timeout) for source in table.tables("source"))
    signers = None
    if "signer" in table:
        named = [inputs.signer(signer) for signer in table.tables("signer")]
        signers = ListSigners(
            keys=tuple(signer for signer in named if not isinstance(signer, SigstoreIdentity)),
            identities=tuple(signer for signer in named if isinstance(signer, SigstoreIdentity)),
            threshold=table.integer("threshold", 1),
            sigstore=inputs.sigstore,
        )
    elif any(getattr(feed, "signed", True) for feed in feeds if not feed.name.startswith("registry:")):
        raise ConfigError("[bans] has sources whose lists are signed, and no [[bans.signer]]; name who signs them")
    condition = BansCondition(feeds, signers, max_age, state)
    table.finish()
    return condition


def state_directory(environ: Mapping[str, str]) -> str:
    """Return the state directory of a policy that names none.

    Args:
        environ: `WCP_ATTEST_STATE_DIR`, else a place below `XDG_STATE_HOME` or `HOME`.

    Returns:
        An absolute path. The directory is made when the first list is seen. The folder around it must exist, so that no
        home is made for a user who has none (Debian's `/nonexistent`).

    Raises:
        ConfigError: none of the three is set, or what the directory is to lie in does not exist.
    """
    if environ.get(STATE_VARIABLE):
        return _in_existing_folder(os.path.abspath(environ[STATE_VARIABLE]), STATE_VARIABLE)
    for variable, below in (("XDG_STATE_HOME", ""), ("HOME", os.path.join(".local", "state"))):
        home = environ.get(variable)
        if home:
            if not os.path.isdir(home):
                raise ConfigError(
                    f"no state directory for ban lists: {variable} is {home!r}, which does not exist; set `state` in "
                    f"[bans], or {STATE_VARIABLE}"
                )
            return os.path.abspath(os.path.join(home, below, "wcp-attest", "bans"))
    raise ConfigError(f"no state directory for ban lists: set `state` in [bans], or {STATE_VARIABLE}")


def _in_existing_folder(path: str, name: str) -> str:
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise ConfigError(f"the state directory {path!r} ({name}) cannot be made: make the folder {folder!r} first")
    return path


@dataclass(frozen=True, slots=True)
class _Network:
    """What every source behind a network needs; the parameters of its feed are called the same."""

    directory: str
    refresh: int
    ca_file: str | None
    timeout: float


def _feed(table: Table, inputs: PolicyInputs, state: str, refresh: int, timeout: int) -> Feed:
    kinds = [kind for kind in _KINDS if kind in table]
    if len(kinds) != 1:
        raise table.wrong("source", f"exactly one of {', '.join(_KINDS)}")
    signed = table.flag("signed", default=True)
    ca_file = table.path("ca_file", inputs.folder) if "ca_file" in table else None
    network = _Network(state, refresh, ca_file, timeout)
    feed: Feed
    match kinds[0]:
        case "file":
            if ca_file is not None:
                raise table.wrong(
                    "ca_file", "given beside a `url`, `tuf` or `registry`; a file is read without a network"
                )
            compiled = table.path("compiled", inputs.folder) if "compiled" in table else None
            feed = FileFeed(table.path("file", inputs.folder), compiled, signed)
        case "url":
            from urllib.parse import urlsplit

            from wcp_attest.trust.bans.feeds.url_feed import UrlFeed

            if not signed:
                raise table.wrong("signed", "true: a list behind a URL must be signed")
            url = table.url("url")
            if urlsplit(url).path in {"", "/"}:
                raise table.wrong("url", "the URL of a list, such as https://acme.example/bans.json")
            feed = UrlFeed(url, **asdict(network))
        case "tuf":
            from wcp_attest.trust.bans.feeds.tuf_feed import TufFeed

            place = table.table("tuf")
            urls = place.url("metadata"), place.url("targets")
            target, root = place.text("target"), place.text("root")
            pinned = inputs.read(root, MAX_ROOT_BYTES, "the pinned TUF root")
            feed = TufFeed(*urls, target, pinned, signed=signed, **asdict(network))
            place.finish()
        case _:
            from wcp_attest.trust.bans.feeds.registry_feed import RegistryFeed

            if signed:
                raise table.wrong(
                    "signed", "false: a registry signs nothing. Say that its answer alone is enough, or use a `url`"
                )
            feed = RegistryFeed(table.url("registry"), **asdict(network))
    table.finish()
    return feed
