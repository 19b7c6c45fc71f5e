"""The `[registry]` table of a trust policy: a registry must call the worker active, with this very package.

    [registry]
    require = true
    url = "https://registry.example"
    timeout = "10s"

An extra condition: it can only refuse. Every verification asks, and a package passes only when the registry answers
"active" with the same package hash. Where the registry keeps manifest and signatures, its manifest must be the
package's own, and its signatures must be about it. When the registry cannot be asked, the package is denied.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from wcp_attest.base.errors import Banned, ConfigError, NotAcceptable, TrustUnusable, VerificationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.base.toml_table import Table
    from wcp_attest.trust.conditions import PackageFacts
    from wcp_attest.trust.registry.answers import VerifyResponse

DEFAULT_TIMEOUT: Final = 10  # seconds
PAUSE: Final = 30.0  # seconds after a registry did not answer in which it is not asked again
QUICK: Final = 1.0  # seconds; after a failure that comes sooner the registry is asked again at once


@dataclass(frozen=True, slots=True)
class RegistryCondition:
    """A registry whose answer a policy asks for; a `Condition`.

    A registry that does not answer costs one verification its timeout. Those of the next `PAUSE` seconds are denied at
    once, as long as the program keeps the policy.

    Attributes:
        url: base URL of the registry.
        timeout: seconds for one question.
        ca_file: path of PEM certificates to trust instead of the system's.
        silence: when the registry did not answer the last time, in seconds of `time.monotonic`, and why; else empty.
    """

    url: str
    timeout: int = DEFAULT_TIMEOUT
    ca_file: str | None = None
    remote: ClassVar[bool] = True
    silence: list[tuple[float, str]] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def files(self) -> tuple[str, ...]:
        """The file of certificates, where one is named."""
        return (self.ca_file,) if self.ca_file else ()

    def open(self, *, now: float) -> RegistryCheck:
        """Get ready to ask; nothing is asked yet.

        Args:
            now: not used: the registry is asked about each package.

        Returns:
            What asks the registry about each package.
        """
        del now
        return RegistryCheck(self)


@dataclass(frozen=True, slots=True)
class RegistryCheck:
    """Asks a registry about packages.

    Attributes:
        condition: which registry, and how long it may take.
    """

    condition: RegistryCondition

    def check_before(self, facts: PackageFacts) -> None:
        """Refuse a package that the registry does not call active.

        Args:
            facts: what is known of the package.

        Raises:
            Banned: the registry bans the worker.
            NotAcceptable: the worker is revoked or unknown, or another package than this one is registered.
            TrustUnusable: the registry cannot be asked, or its answer cannot be used.
        """
        url, answer = self.condition.url, self._ask(facts.worker_id)
        if answer.banned:
            raise Banned(f"{url} bans {facts.worker_id}: {answer.ban_reason or 'no reason given'}")
        if answer.status != "active":
            raise NotAcceptable(f"{url} calls {facts.worker_id} {answer.status}, and the policy wants active")
        if answer.current_hash is None or facts.hash_algorithm != "sha256":
            raise NotAcceptable(f"{url} has no package hash of {facts.worker_id} that could be compared")
        if answer.current_hash != facts.package_hash:
            raise NotAcceptable(
                f"{url} has package hash {answer.current_hash} for {facts.worker_id}, this is {facts.package_hash}"
            )
        if answer.manifest is not None:
            _check_pair(answer.manifest, answer.signatures or b"", facts, url)

    def _ask(self, worker_id: str) -> VerifyResponse:
        """Ask the registry, except when it did not answer a moment ago.

        Raises:
            TrustUnusable: it cannot be asked, or its answer cannot be used.
        """
        from wcp_attest.net.https_errors import RegistryError, RegistryUnreachable
        from wcp_attest.trust.registry.client import RegistryClient

        condition = self.condition
        began = time.monotonic()
        for at, reason in condition.silence:
            if began - at < PAUSE:
                raise TrustUnusable(f"{reason} ({began - at:.0f} s ago; it is asked again after {PAUSE:.0f} s)")
        try:
            client = RegistryClient(condition.url, timeout=condition.timeout, ca_file=condition.ca_file)
            with contextlib.closing(client):
                return client.verify(worker_id)
        except (RegistryError, ConfigError) as problem:
            reason = f"the policy requires an answer of {condition.url}: {problem}"
            if isinstance(problem, RegistryUnreachable) and time.monotonic() - began > QUICK:
                condition.silence[:] = [(time.monotonic(), reason)]
            raise TrustUnusable(reason) from None

    def check_files(self, files: Iterable[tuple[str, str]], algorithm: HashAlgorithm) -> None:
        """Do nothing: a registry knows no files.

        Args:
            files: not used.
            algorithm: not used.
        """


def _check_pair(manifest: bytes, signatures: bytes, facts: PackageFacts, url: str) -> None:
    """Compare the pair that a registry keeps with the package, whose own signatures were verified before.

    Raises:
        NotAcceptable: it is of another manifest.
        TrustUnusable: its signatures are malformed, or about something else.
    """
    from wcp_attest.base.digest import sha256_hex
    from wcp_attest.package.signature_file import parse_lines
    from wcp_attest.package.statement import Statement

    if sha256_hex(manifest) != facts.manifest_sha256:
        raise NotAcceptable(f"{url} keeps another manifest of {facts.worker_id} than this package has")
    try:
        about = {Statement.from_bytes(line.envelope.payload).manifest_sha256 for line in parse_lines(signatures)}
    except VerificationError as problem:
        raise TrustUnusable(f"the signatures that {url} keeps of {facts.worker_id} cannot be used: {problem}") from None
    if about != {facts.manifest_sha256}:
        raise TrustUnusable(f"{url} keeps signatures of {facts.worker_id} that are about another manifest")


def parse_registry_table(table: Table, folder: str) -> RegistryCondition:
    """Read the `[registry]` table.

    Args:
        table: the table; keys that are left over in it are refused here.
        folder: of the policy file; names of files are relative to it.

    Returns:
        The condition. The registry is not asked yet.

    Raises:
        ConfigError: it is malformed, or does not require anything.
    """
    if not table.flag("require", default=False):
        raise ConfigError(
            "the policy's [registry] does not say `require = true`; leave the table out if it is not meant"
        )
    condition = RegistryCondition(
        url=table.url("url"),
        timeout=table.age("timeout") if "timeout" in table else DEFAULT_TIMEOUT,
        ca_file=table.path("ca_file", folder) if "ca_file" in table else None,
    )
    if condition.timeout > 60:
        raise table.wrong("timeout", "at most 60s")
    table.finish()
    return condition
