"""What keyless verification rests on: a trusted root, and in it only what was valid when the signature was made.

A trusted root lists the keys of logs and the chains of authorities, each with the window of time in which it is trusted
(`validFor`, both ends included; sigstore/protobuf-specs, trustroot.proto). The library enforces the start of a window
against the clock and its end not at all, so it would still trust a log key that was retired because it leaked. Here
every log and authority that was not valid at each proven time of a signature is taken out of the root before the
library sees it.

A pinned root is used as given: no socket is opened, and no cache or home directory is read or written. Without one the
root of the public instance comes through TUF, as the library does it.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Literal, TypeVar

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError, TrustUnusable
from wcp_attest.net.authorities import check_authorities

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sigstore.models import ClientTrustConfig
    from sigstore_models.common.v1 import TimeRange
    from sigstore_models.trustroot.v1 import CertificateAuthority, TransparencyLogInstance, TrustedRoot

    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_attest.signing import SigstoreTrust

    _Member = TypeVar("_Member", TransparencyLogInstance, CertificateAuthority)

Instance = Literal["production", "staging"]

MAX_TRUSTED_ROOT_BYTES = 4 * 1024 * 1024  # the public one is 7 kB
MAX_QUOTED = 300  # characters of what a library or a service says
# A process that verifies for days asks TUF again after an hour, and after a failure in a minute: a package with many
# keyless lines must not make it wait for a dead network once a line.
FRESH, RETRY = 3600.0, 60.0  # seconds

_CLIENT_TRUST_CONFIG = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
_PIN = (
    "pin a trusted root: fetch it elsewhere with `wcp-attest policy root FILE`, and name it by --trusted-root or in "
    "the policy's [sigstore] table"
)


def trusted_root(trust: SigstoreTrust) -> TrustedRoot:
    """Return the trusted root.

    Args:
        trust: a pinned root, or which public instance to ask for its own.

    Raises:
        TrustUnusable: the pinned root is malformed, or the public one cannot be had.
    """
    return parse_root(public_root(trust.instance) if trust.trusted_root is None else trust.trusted_root)


def public_root(instance: Instance) -> bytes:
    """Return the trusted root of a public instance through TUF, as the library caches it in the user's folders.

    What was fetched is used for an hour, and a failure for a minute, before TUF is asked again.

    Args:
        instance: `production` or `staging`.

    Returns:
        Its JSON (sigstore/protobuf-specs, trustroot.proto).

    Raises:
        TrustUnusable: it cannot be fetched.
    """
    from sigstore.errors import Error
    from sigstore.models import ClientTrustConfig

    until, found = _remembered.get(instance, (0.0, ""))
    if time.monotonic() >= until:
        try:
            check_authorities()
            fetch = ClientTrustConfig.staging if instance == "staging" else ClientTrustConfig.production
            found = root_of(fetch())
        except (Error, ConfigError, OSError, ValueError) as problem:
            cause = f": {in_words(problem.__cause__)}" if problem.__cause__ else ""
            found = (
                f"the trusted root of Sigstore's {instance} instance cannot be fetched ({in_words(problem)}{cause}); "
                f"without a network, {_PIN}"
            )
        _remembered[instance] = (time.monotonic() + (FRESH if isinstance(found, bytes) else RETRY), found)
    if isinstance(found, str):
        raise TrustUnusable(found)
    return found


def public_root_folders() -> tuple[str, ...]:
    """Return where the library keeps what it fetched of a public instance through TUF."""
    import platformdirs

    named = ("sigstore-python", "sigstore")  # as in `sigstore._internal.tuf`
    return platformdirs.user_data_dir(*named), platformdirs.user_cache_dir(*named)


def parse_root(data: bytes) -> TrustedRoot:
    """Parse a trusted root.

    A log or authority of a later kind (a new key type, a field that is not known here) is left out: a signature that
    rests on it is refused, and all others can still be verified.

    Args:
        data: its JSON, or that of a client trust config, which holds one.

    Returns:
        The root, with those of its members that the library can use.

    Raises:
        TrustUnusable: it is too large, neither, or of one kind no log or authority is left.
    """
    from sigstore_models.trustroot.v1 import TrustedRoot

    fields = strictjson.loads_object(
        data, what="the trusted root", max_bytes=MAX_TRUSTED_ROOT_BYTES, error=TrustUnusable
    )
    if fields.get("mediaType") == _CLIENT_TRUST_CONFIG:
        inner = fields.get("trustedRoot")
        if not isinstance(inner, dict):
            raise TrustUnusable("the trusted root cannot be used: the client trust config holds none")
        fields = inner
    try:
        return TrustedRoot.from_json(json.dumps(_without_later_kinds(fields)))
    except ValueError as problem:
        raise TrustUnusable(f"the trusted root cannot be used: {in_words(problem)}") from None


def usable_config(data: bytes) -> bytes:
    """Return a client trust config without logs and authorities of a later kind, which need not keep it from signing.

    Args:
        data: its JSON.

    Raises:
        TrustUnusable: it is too large or no JSON object, or of one kind no log or authority is left.
    """
    fields = strictjson.loads_object(
        data, what="the trust config", max_bytes=MAX_TRUSTED_ROOT_BYTES, error=TrustUnusable
    )
    inner = fields.get("trustedRoot")
    return json.dumps(
        {**fields, "trustedRoot": _without_later_kinds(inner)} if isinstance(inner, dict) else fields
    ).encode()


def _without_later_kinds(root: JsonObject) -> JsonObject:
    """Return the JSON of a trusted root with only those members that the library can read and use.

    Raises:
        TrustUnusable: of one kind no log or authority is left.
    """
    kept = dict(root)
    for name in ("tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities"):
        members = root.get(name)
        if not isinstance(members, list) or not members:
            continue
        reasons = [_reason_to_leave_out(name, member) for member in members]
        kept[name] = [member for member, reason in zip(members, reasons, strict=True) if reason is None]
        if not kept[name]:
            raise TrustUnusable(
                f"the trusted root cannot be used: none of its {name} is of a known kind ({reasons[0]})"
            )
    return kept


def _reason_to_leave_out(name: str, member: JsonValue) -> str | None:
    """Say why the library cannot use a member of a trusted root, or return None when it can."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from sigstore_models.trustroot.v1 import CertificateAuthority, TransparencyLogInstance

    from wcp_attest.signing.sigstore.certificate import load_certificate

    try:
        if name.endswith("Authorities"):
            for certificate in CertificateAuthority.from_json(json.dumps(member)).cert_chain.certificates:
                load_certificate(certificate.raw_bytes).public_key()
        else:
            TransparencyLogInstance.from_json(json.dumps(member))
    except (ValueError, TypeError, UnsupportedAlgorithm) as problem:
        return in_words(problem)
    return None


def root_of(config: ClientTrustConfig) -> bytes:
    """Return the JSON of the trusted root inside a client's configuration.

    Args:
        config: as the library has it.
    """
    root = config._inner.trusted_root  # noqa: SLF001  # the library offers no other way to hand the root on
    return root.to_json().encode()


# Of each public instance: when to ask it again, in seconds of `time.monotonic`, and its root, or why there is none.
_remembered: dict[Instance, tuple[float, bytes | str]] = {}


def valid_at(root: TrustedRoot, times: Sequence[datetime]) -> tuple[TrustedRoot, tuple[str, ...]]:
    """Return the part of a trusted root that was valid at every one of the times, and what was left out.

    Args:
        root: the whole one.
        times: the times that a signature proves; timezone-aware.

    Returns:
        The root, and a line for each log or authority that was not valid. Timestamp authorities stay: each is held
        against its own timestamps where those are verified.

    Raises:
        TrustUnusable: a window has no time zone.
    """
    left_out: list[str] = []
    return (
        root.model_copy(
            update={
                "tlogs": _kept(root.tlogs, times, left_out, "the log"),
                "ctlogs": _kept(root.ctlogs, times, left_out, "the certificate log"),
                "certificate_authorities": _kept(root.certificate_authorities, times, left_out, "the authority"),
            }
        ),
        tuple(left_out),
    )


def within(window: TimeRange | None, at: datetime) -> bool:
    """Tell whether a time lies in a window, both ends included.

    Args:
        window: None, or a window without an end, has no limit there.
        at: with its time zone.

    Raises:
        TrustUnusable: the window has no time zone.
    """
    if window is None:
        return True
    if window.start.tzinfo is None or (window.end is not None and window.end.tzinfo is None):
        raise TrustUnusable("the trusted root cannot be used: a `validFor` has no time zone")
    return window.start <= at and (window.end is None or at <= window.end)


def _kept(members: Iterable[_Member], times: Sequence[datetime], left_out: list[str], what: str) -> list[_Member]:
    """Return the members that were valid at all of the times; add a line for each other one to `left_out`."""
    from sigstore_models.trustroot.v1 import CertificateAuthority

    kept = []
    for member in members:
        window: TimeRange | None
        if isinstance(member, CertificateAuthority):
            window, name = member.valid_for, member.uri
        else:
            window, name = member.public_key.valid_for, member.base_url
        if all(within(window, at) for at in times):
            kept.append(member)
        elif window is not None:
            end = window.end.isoformat() if window.end else "now on"
            left_out.append(f"{what} {name or 'without a name'} is valid from {window.start.isoformat()} to {end}")
    return kept


def in_words(problem: BaseException) -> str:
    """Return what an exception of a library says, on one line and at most 301 characters long.

    What the library was given is left out: a user who names the wrong file may have named a secret.

    Args:
        problem: what a library raised.
    """
    from pydantic import ValidationError

    if isinstance(problem, ValidationError):
        first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return shortened(f"{where}: {first['msg']}" if where else first["msg"])
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return shortened(" ".join(lines[:3])) if lines else type(problem).__name__


def shortened(text: str) -> str:
    """Return a text that others wrote on one line, and cut after 300 characters.

    Args:
        text: any text.
    """
    line = " ".join(text.split())
    return line if len(line) <= MAX_QUOTED else line[:MAX_QUOTED] + "…"
