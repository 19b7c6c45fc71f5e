"""What a client must trust: the trusted root and the signing configuration, in Sigstore's JSON forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from tests.loopback_sigstore.keys import b64

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography import x509

Json = dict[str, object]

CONFIG_TYPE = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
ROOT_TYPE = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
SIGNING_TYPE = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
P256, ED25519 = "PKIX_ECDSA_P256_SHA_256", "PKIX_ED25519"


class Pinned(Enum):
    """One log or authority of the trusted root."""

    REKOR_V1 = auto()
    REKOR_V2 = auto()
    CT = auto()
    CA = auto()
    TSA = auto()


@dataclass(frozen=True, slots=True)
class Window:
    """When a log or an authority may be believed; without an end it still may."""

    start: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(hours=1))
    end: datetime | None = None

    def to_json(self) -> Json:
        """Return a `validFor` of the trusted root."""
        end: Json = {"end": _rfc3339(self.end)} if self.end else {}
        return {"start": _rfc3339(self.start), **end}


@dataclass(frozen=True, slots=True)
class Log:
    """A log's public key."""

    pinned: Pinned
    url: str
    log_id: bytes
    public_key: bytes
    details: str = P256

    def to_json(self, window: Window) -> Json:
        """Return a member of `tlogs` or `ctlogs`."""
        key = {"rawBytes": b64(self.public_key), "keyDetails": self.details, "validFor": window.to_json()}
        return {
            "baseUrl": self.url,
            "hashAlgorithm": "SHA2_256",
            "logId": {"keyId": b64(self.log_id)},
            "publicKey": key,
        }


@dataclass(frozen=True, slots=True)
class Chain:
    """An authority's certificates, the issuing one first."""

    pinned: Pinned
    url: str
    certificates: tuple[x509.Certificate, ...]

    def to_json(self, window: Window) -> Json:
        """Return a member of `certificateAuthorities` or `timestampAuthorities`."""
        name = self.pinned.name.lower()
        raw = [{"rawBytes": b64(certificate.public_bytes(Encoding.DER))} for certificate in self.certificates]
        return {
            "subject": {"organization": "loopback.test", "commonName": name},
            "uri": self.url,
            "certChain": {"certificates": raw},
            "validFor": window.to_json(),
        }


def trusted_root(
    members: Sequence[Log | Chain],
    windows: Mapping[Pinned, Window] | None = None,
    without: frozenset[Pinned] = frozenset(),
) -> Json:
    """Assemble a trusted root.

    Args:
        members: the logs and authorities.
        windows: those whose window is not the usual one, begun an hour ago and open.
        without: those to leave out.
    """
    windows = windows or {}
    usual = Window()

    def of(*kinds: Pinned) -> list[Json]:
        kept = [member for member in members if member.pinned in kinds and member.pinned not in without]
        return [member.to_json(windows.get(member.pinned, usual)) for member in kept]

    return {
        "mediaType": ROOT_TYPE,
        "tlogs": of(Pinned.REKOR_V1, Pinned.REKOR_V2),
        "ctlogs": of(Pinned.CT),
        "certificateAuthorities": of(Pinned.CA),
        "timestampAuthorities": of(Pinned.TSA),
    }


def signing_config(base: str, *, rekor: int, timestamps: bool) -> Json:
    """Tell a client where to sign.

    Args:
        base: the instance's URL.
        rekor: the version of the log to use, 1 or 2.
        timestamps: whether there is a timestamp authority.
    """
    return {
        "mediaType": SIGNING_TYPE,
        "caUrls": [_service(base)],
        "oidcUrls": [_service(f"{base}/oidc")],
        "rekorTlogUrls": [_service(base if rekor == 1 else f"{base}/v2", rekor)],
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaUrls": [_service(f"{base}/api/v1/timestamp")] if timestamps else [],
        "tsaConfig": {"selector": "ANY"},
    }


def client_trust_config(root: Json, signing: Json) -> Json:
    """Join both into the one file that a client is configured with."""
    return {"mediaType": CONFIG_TYPE, "trustedRoot": root, "signingConfig": signing}


def _service(url: str, version: int = 1) -> Json:
    return {
        "url": url,
        "majorApiVersion": version,
        "validFor": {"start": "2020-01-01T00:00:00Z"},
        "operator": "loopback.test",
    }


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
