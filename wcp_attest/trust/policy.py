"""A trust policy as values that cannot be empty or contradict themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from wcp_attest.base.errors import ConfigError, NamespaceInvalid
from wcp_attest.base.identity import check_namespace
from wcp_attest.signing import SigstoreTrust

if TYPE_CHECKING:
    from wcp_attest.signing import TrustedSigner
    from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity
    from wcp_attest.trust.conditions import BanCheck

Schema = Literal["awp.v2", "awp.v1"]
SCHEMAS: tuple[Schema, ...] = get_args(Schema)
MAX_NAMESPACES = 10_000
MAX_SIGNERS = 1_000  # of one namespace


class Condition(Protocol):
    """A further condition of a policy, such as its ban lists or the registry's word."""

    def open(self, *, now: float) -> BanCheck:
        """Get ready to answer for packages.

        Args:
            now: the time to judge freshness by, in seconds since the epoch.

        Raises:
            BansUnusable: what the condition needs cannot be relied on.
        """


@dataclass(frozen=True, slots=True)
class Namespace:
    """Who may speak for a namespace.

    Attributes:
        name: `org.<name>` or `x.<name>`, matched exactly.
        keys: trusted keys and shared secrets.
        identities: trusted keyless signers.
        threshold: how many distinct ones of them must have signed.

    Raises:
        ConfigError: the name is none, there are no signers, one is listed twice, or the threshold cannot be met.
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
            raise ConfigError(f"namespace {self.name} names the same signer twice; it could never count twice")
        if not 1 <= self.threshold <= signers:
            raise ConfigError(
                f"namespace {self.name}: a threshold of {self.threshold} with {signers} signers; use 1 to {signers}"
            )


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
            raise ConfigError("accept.max_age must be longer than nothing")
        if self.permissions not in {"normal", "strict"}:
            raise ConfigError("accept.permissions must be `normal` or `strict`")


@dataclass(frozen=True, slots=True)
class Policy:
    """Who is believed.

    Attributes:
        namespaces: at least one, each named once.
        accept: what is acceptable from them.
        sigstore: what keyless verification rests on.
        conditions: ban lists and the like, all of which must agree.
        digest: SHA-256 of the policy file, 64 lower-case hex digits; empty for a policy built in memory.

    Raises:
        ConfigError: there is no namespace, or one is listed twice.
    """

    namespaces: tuple[Namespace, ...]
    accept: Accept = field(default_factory=Accept)
    sigstore: SigstoreTrust = field(default_factory=SigstoreTrust)
    conditions: tuple[Condition, ...] = ()
    digest: str = ""

    def __post_init__(self) -> None:
        if not 0 < len(self.namespaces) <= MAX_NAMESPACES:
            raise ConfigError("the policy names no namespace; nobody could be trusted")
        if len({namespace.name for namespace in self.namespaces}) != len(self.namespaces):
            raise ConfigError("the policy names a namespace twice; put its signers into one [[namespace]]")

    def namespace(self, name: str) -> Namespace:
        """Return the namespace of that name.

        Raises:
            NamespaceInvalid: the policy does not know it.
        """
        for namespace in self.namespaces:
            if namespace.name == name:
                return namespace
        known = ", ".join(namespace.name for namespace in self.namespaces[:5])
        raise NamespaceInvalid(f"the policy does not know the namespace {name}; it knows {known}")

    @property
    def keys(self) -> tuple[TrustedSigner, ...]:
        """The trusted keys and secrets of all namespaces."""
        return tuple(key for namespace in self.namespaces for key in namespace.keys)

    @property
    def identities(self) -> tuple[SigstoreIdentity, ...]:
        """The trusted keyless signers of all namespaces."""
        return tuple(identity for namespace in self.namespaces for identity in namespace.identities)
