"""A keyless line, attacked: damaged, varied, out of its time, over something else, by a broken trusted root."""

from __future__ import annotations

import base64
import copy
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sigstore.dsse import Statement as SigstoreStatement
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext

from tests.loopback_sigstore import Fault, LoopbackSigstore, Pinned, Window, github_claims
from tests.sigstore.packages import WORKFLOW, keyless_line
from wcp_attest.base.errors import SignatureInvalid, TrustUnusable, VerificationError
from wcp_attest.package.signature_file import parse_line
from wcp_attest.package.statement import PACKAGE_PREDICATE, Statement, render
from wcp_attest.signing import SignedBy, SigstoreTrust
from wcp_attest.signing.sigstore.bundle import VerifiedBundle, verify_bundle
from wcp_attest.signing.sigstore.keyless_signer import SigstoreSigner

if TYPE_CHECKING:
    from collections.abc import Iterator


DIGEST = "0" * 64
PREDICATE = {
    "worker_id": "org.acme.summarizer",
    "worker_species_id": "wrk.doc.summarizer",
    "worker_version": "1.4.0",
    "package_hash": DIGEST,
    "hash_algorithm": "sha256",
    "signed_at_utc": "2026-11-22T14:00:05Z",
}


def payload(predicate_type: str = PACKAGE_PREDICATE, name: str = "manifest.json") -> bytes:
    return render(name=name, sha256=DIGEST, predicate_type=predicate_type, predicate={**PREDICATE})


def root_of(instance: LoopbackSigstore, **kwargs: Any) -> bytes:
    return json.dumps(instance.trusted_root(**kwargs)).encode()


def check(raw: bytes, root: bytes, *, require_timestamp: bool = False) -> VerifiedBundle:
    return verify_bundle(parse_line(raw), SigstoreTrust(root, require_timestamp=require_timestamp))


def refusal(raw: bytes, root: bytes, *, require_timestamp: bool = False) -> str:
    with pytest.raises(SignatureInvalid) as caught:
        check(raw, root, require_timestamp=require_timestamp)
    return str(caught.value)


def time_of(raw: bytes, rekor: int) -> datetime:
    """Return the time that the log or the timestamp authority gives."""
    return datetime.fromtimestamp(check(raw, ROOTS[rekor]).at, tz=UTC)


ROOTS: dict[int, bytes] = {}


@pytest.fixture(scope="module", params=[1, 2], ids=["rekor-1", "rekor-2"])
def rekor(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def line(sigstore_instance: LoopbackSigstore, rekor: int) -> bytes:
    ROOTS[rekor] = root_of(sigstore_instance)
    return keyless_line(sigstore_instance, payload(), github_claims(), rekor=rekor)


def test_it_verifies_and_says_who_and_when(instance: LoopbackSigstore, line: bytes) -> None:
    bundle = check(line, root_of(instance), require_timestamp=True)
    assert bundle.by == SignedBy(identity=WORKFLOW, issuer=instance.issuer)
    assert bundle.by.repository == "https://github.com/acme/worker"
    assert bundle.claims.source_repository_ref == "refs/tags/v1"
    assert abs(bundle.at - datetime.now(UTC).timestamp()) < 3600


# ---------------------------------------------------------------- one change at a time


OTHERS: tuple[Any, ...] = (-1, 0, 2**63, None, [])


def damages(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (what was changed, the document with one thing changed) for everything inside a JSON document."""
    if isinstance(value, dict):
        yield f"{path} with a further field", {**value, "further": 1}
        for key in value:
            yield f"{path}.{key} removed", {k: v for k, v in value.items() if k != key}
            yield f"{path}.{key} null", {**value, key: None}
            for what, damaged in damages(value[key], f"{path}.{key}"):
                yield what, {**value, key: damaged}
    elif isinstance(value, list):
        yield f"{path} empty", []
        yield f"{path} doubled", value + value
        for number, item in enumerate(value):
            for what, damaged in damages(item, f"{path}[{number}]"):
                yield what, [*value[:number], damaged, *value[number + 1 :]]
    elif isinstance(value, str):
        yield from ((f"{path} {what}", changed) for what, changed in _texts(value))
    else:
        yield from ((f"{path} = {changed!r}", changed) for changed in (*OTHERS, str(value)))


def _texts(value: str) -> Iterator[tuple[str, Any]]:
    yield "empty", ""
    yield "a number", 7
    yield "cut", value[: len(value) // 2]
    yield "longer", value + "AAAA"
    if value.isdecimal():
        yield from ((f"= {number}", number) for number in ("0", "-1", str(int(value) + 1), str(2**63), "9" * 40))
    for place in {0, len(value) // 3, len(value) - 1} - {-1}:
        other = "A" if value[place] != "A" else "B"
        yield f"changed at {place}", value[:place] + other + value[place + 1 :]


# A bundle can be varied in these places and still verifies: that it is the same signature is never read off them.
MALLEABLE = (
    ".inclusionPromise",  # removed: a timestamp proves the time as well
    ".integratedTime",
    ".timestampVerificationData",  # removed: the promise proves the time as well; never altered
    ".rfc3161Timestamps",
    ".tlogEntries[0].logIndex",  # of the whole log; the proof has its own
    ".logId.keyId",  # a hint
    ".logId",
    ".keyid",
)


def test_whatever_is_changed_it_is_refused_or_still_the_same_signature(
    instance: LoopbackSigstore, line: bytes, rekor: int
) -> None:
    root, good = root_of(instance), check(line, root_of(instance))
    refused, same = 0, []
    for what, document in damages(json.loads(line)):
        raw = json.dumps(document).encode()
        try:
            found = check(raw, root)
        except VerificationError:
            refused += 1
            continue
        assert found.claims == good.claims, what
        assert parse_line(raw).envelope.payload == payload(), what
        assert abs(found.at - good.at) < 600, what
        same.append(what)
    assert refused > 150
    unexpected = [what for what in same if not any(place in what for place in MALLEABLE)]
    assert unexpected == []


def test_every_byte_of_the_certificate_counts(instance: LoopbackSigstore, line: bytes) -> None:
    document, root = json.loads(line), root_of(instance)
    certificate = base64.b64decode(document["verificationMaterial"]["certificate"]["rawBytes"])
    for place in range(0, len(certificate), 3):
        damaged = certificate[:place] + bytes([certificate[place] ^ 1]) + certificate[place + 1 :]
        changed: Any = copy.deepcopy(document)
        changed["verificationMaterial"]["certificate"]["rawBytes"] = base64.b64encode(damaged).decode()
        refusal(json.dumps(changed).encode(), root)


def test_every_byte_of_a_timestamp_counts_or_means_nothing(instance: LoopbackSigstore, line: bytes, rekor: int) -> None:
    document, root, good = json.loads(line), root_of(instance), check(line, root_of(instance))
    stamps = document["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    stamp = base64.b64decode(stamps[0]["signedTimestamp"])
    for place in range(0, len(stamp), 5):
        damaged = stamp[:place] + bytes([stamp[place] ^ 1]) + stamp[place + 1 :]
        stamps[0]["signedTimestamp"] = base64.b64encode(damaged).decode()
        try:
            assert check(json.dumps(document).encode(), root) == good
        except SignatureInvalid:
            continue


def test_a_field_is_read_in_one_spelling_only(instance: LoopbackSigstore, line: bytes) -> None:
    root = root_of(instance)
    for name, other in (
        (b'"canonicalizedBody"', b'"canonicalized_body"'),
        (b'"rawBytes"', b'"raw_bytes"'),
        (b'"tlogEntries"', b'"tlog_entries"'),
        (b'"logIndex":"', b'"logIndex":"0'),
    ):
        assert name in line
        assert "malformed" in refusal(line.replace(name, other), root)


def test_parts_of_two_bundles_do_not_make_one(instance: LoopbackSigstore, line: bytes, rekor: int) -> None:
    one = json.loads(line)
    other = json.loads(keyless_line(instance, payload(), {"email": "somebody@else.test"}, rekor=rekor))
    root = root_of(instance)
    for part in ("certificate", "tlogEntries", "timestampVerificationData"):
        mixed = copy.deepcopy(one)
        mixed["verificationMaterial"][part] = other["verificationMaterial"][part]
        refusal(json.dumps(mixed).encode(), root)
    refusal(json.dumps({**one, "dsseEnvelope": other["dsseEnvelope"]}).encode(), root)


# ---------------------------------------------------------------- time


OF_INTEREST = {1: [Pinned.REKOR_V1, Pinned.CT, Pinned.CA], 2: [Pinned.REKOR_V2, Pinned.CT, Pinned.CA]}


def test_a_log_or_authority_is_believed_only_inside_its_window(
    instance: LoopbackSigstore, line: bytes, rekor: int
) -> None:
    at, begin = time_of(line, rekor), datetime(2020, 1, 1, tzinfo=UTC)
    second = timedelta(seconds=1)
    for member in OF_INTEREST[rekor]:
        for window in (Window(begin, at - second), Window(at + second), Window(at + second, at + 2 * second)):
            message = refusal(line, root_of(instance, windows={member: window}))
            assert "is valid from" in message, member
        for window in (Window(begin, at), Window(at), Window(at, at)):
            check(line, root_of(instance, windows={member: window}))


def test_a_timestamp_authority_is_believed_only_inside_its_window(
    instance: LoopbackSigstore, line: bytes, rekor: int
) -> None:
    at, begin = time_of(line, rekor), datetime(2020, 1, 1, tzinfo=UTC)
    minute = timedelta(minutes=1)
    for window in (Window(begin, at - minute), Window(at + minute)):
        assert "was not valid" in refusal(line, root_of(instance, windows={Pinned.TSA: window}))
    check(line, root_of(instance, windows={Pinned.TSA: Window(at - minute, at + minute)}))


def test_a_removed_log_or_authority_is_not_believed(instance: LoopbackSigstore, line: bytes, rekor: int) -> None:
    for member in (*OF_INTEREST[rekor], Pinned.TSA):
        with pytest.raises((SignatureInvalid, TrustUnusable)):
            check(line, root_of(instance, without=frozenset({member})))


def test_another_instances_root_is_of_no_use(line: bytes) -> None:
    with LoopbackSigstore() as other:
        refusal(line, root_of(other))


@pytest.mark.parametrize("version", [1, 2])
def test_a_timestamp_over_something_else_is_refused_although_the_log_vouches(
    instance: LoopbackSigstore, version: int
) -> None:
    with instance.failing(Fault.BAD_TIMESTAMP):
        raw = keyless_line(instance, payload(), rekor=version)
    assert "timestamp" in refusal(raw, root_of(instance))


def test_a_policy_can_demand_a_timestamp(instance: LoopbackSigstore, line: bytes) -> None:
    without = keyless_line(instance, payload(), timestamps=False)
    check(without, root_of(instance))
    assert "demands a signed timestamp" in refusal(without, root_of(instance), require_timestamp=True)
    stripped = json.loads(line)
    del stripped["verificationMaterial"]["timestampVerificationData"]
    refusal(json.dumps(stripped).encode(), root_of(instance), require_timestamp=True)


def test_a_log_time_that_no_promise_proves_is_not_believed(instance: LoopbackSigstore) -> None:
    root, raw = root_of(instance), keyless_line(instance, payload())
    document = json.loads(raw)
    entry = document["verificationMaterial"]["tlogEntries"][0]
    del entry["inclusionPromise"]
    entry["integratedTime"] = "1"
    assert check(json.dumps(document).encode(), root).at == check(raw, root).at
    del document["verificationMaterial"]["timestampVerificationData"]
    assert "nothing in the bundle proves the time" in refusal(json.dumps(document).encode(), root)


def test_too_many_timestamps_are_refused_before_they_cost_anything(instance: LoopbackSigstore, line: bytes) -> None:
    document = json.loads(line)
    data = document["verificationMaterial"]["timestampVerificationData"]
    data["rfc3161Timestamps"] = data["rfc3161Timestamps"] * 33
    assert "more than 32" in refusal(json.dumps(document).encode(), root_of(instance))


# ---------------------------------------------------------------- what is signed


def sign_raw(instance: LoopbackSigstore, data: bytes) -> bytes:
    """Sign bytes that the library would refuse to take for a Statement."""
    config = ClientTrustConfig.from_json(json.dumps(instance.client_trust_config()))
    statement = object.__new__(SigstoreStatement)
    statement._contents = data
    with SigningContext.from_trust_config(config).signer(IdentityToken(instance.token())) as signer:
        bundle = signer.sign_dsse(statement)
    return json.dumps(json.loads(bundle.to_json())).encode()


def test_another_payload_type_is_refused(instance: LoopbackSigstore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sigstore.dsse.Envelope._TYPE", "text/plain")
    raw = sign_raw(instance, payload())
    assert json.loads(raw)["dsseEnvelope"]["payloadType"] == "text/plain"
    refusal(raw, root_of(instance))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no JSON",
        b"{}",
        payload().replace(b"Statement/v1", b"Statement/v0.1"),
        payload(predicate_type="https://slsa.dev/provenance/v1"),
        payload(name="other.json"),
        payload().replace(b'"subject":[', b'"subject":[{"name":"x","digest":{"sha256":"%s"}},' % DIGEST.encode()),
        payload().replace(b'"sha256":', b'"sha512":', 1),
        payload().replace(b'"worker_version":"1.4.0",', b""),
        payload().replace(b'"worker_version":"1.4.0"', b'"worker_version":"1.4.0","worker_version":"9"'),
    ],
    ids=lambda data: data[:60].decode(),
)
def test_a_signed_payload_that_is_not_our_statement_is_refused(instance: LoopbackSigstore, data: bytes) -> None:
    raw = sign_raw(instance, data)

    def verify() -> None:
        line = parse_line(raw)
        check(raw, root_of(instance))
        Statement.from_bytes(line.envelope.payload)

    with pytest.raises(SignatureInvalid):
        verify()


# ---------------------------------------------------------------- the trusted root itself


def _with_one_certificate(root: bytes) -> bytes:
    document = json.loads(root)
    del document["timestampAuthorities"][0]["certChain"]["certificates"][1:]
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"{}",
        lambda _: b"\xff",
        lambda _: b"[" * 100_000,
        lambda _: b" " * (4 * 1024 * 1024 + 1),
        lambda root: root[:-1],
        lambda root: root.replace(b"version=0.1", b"version=9"),
        lambda root: root.replace(b'"tlogs"', b'"logs"'),
        lambda root: root.replace(b'Z"}', b'"}'),
        lambda root: root.replace(b'"rawBytes": "MII', b'"rawBytes": "AAA'),
        lambda root: root.replace(b"trustedroot+json;version=0.1", b"trustedroot.v0.2+json"),
        _with_one_certificate,
    ],
)
def test_a_trusted_root_that_cannot_be_used_is_said_to_be(instance: LoopbackSigstore, damage: Any) -> None:
    raw = keyless_line(instance, payload())
    with pytest.raises(TrustUnusable):
        check(raw, damage(root_of(instance)))


def test_a_damaged_trusted_root_never_raises_anything_else(instance: LoopbackSigstore) -> None:
    raw = keyless_line(instance, payload())
    refused = 0
    for _, document in damages(instance.trusted_root()):
        try:
            check(raw, json.dumps(document).encode())
        except VerificationError:
            refused += 1
    assert refused > 100


def test_a_certificate_of_the_root_that_openssl_cannot_read_leaves_it_undecided(instance: LoopbackSigstore) -> None:
    """The library for timestamps would panic on it, which is no `Exception`."""
    raw, root = keyless_line(instance, payload()), json.loads(root_of(instance))
    chain = root["timestampAuthorities"][0]["certChain"]["certificates"]
    data = base64.b64decode(chain[-1]["rawBytes"])
    name = b"\x0c\x0dloopback.test"  # UTF8String (X.690)
    assert name in data
    spoilt = data.replace(name, name[:2] + b"\xff" * 13)
    chain[-1]["rawBytes"] = base64.b64encode(spoilt).decode()
    with pytest.raises(TrustUnusable, match="cannot be used"):
        check(raw, json.dumps(root).encode())


def test_a_client_trust_config_holds_a_trusted_root(instance: LoopbackSigstore) -> None:
    check(keyless_line(instance, payload()), json.dumps(instance.client_trust_config()).encode())


def later_kind(member: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(member)
    if "publicKey" in changed:
        changed["publicKey"]["keyDetails"] = "PKIX_LATER_KIND"
    else:
        changed["certChain"]["certificates"] = [{"rawBytes": "AAAA"}]
    return changed


def with_later_field(member: dict[str, Any]) -> dict[str, Any]:
    return {**copy.deepcopy(member), "laterField": {"x": 1}}


@pytest.mark.parametrize("later", [later_kind, with_later_field])
@pytest.mark.parametrize("name", ["tlogs", "ctlogs", "certificateAuthorities", "timestampAuthorities"])
def test_a_member_of_a_later_kind_leaves_the_others_usable(
    instance: LoopbackSigstore, line: bytes, name: str, later: Any
) -> None:
    root = json.loads(root_of(instance))
    root[name].append(later(root[name][0]))
    good = check(line, root_of(instance))
    assert check(line, json.dumps(root).encode()) == good
    config = {**instance.client_trust_config(), "trustedRoot": root}
    assert check(line, json.dumps(config).encode()) == good
    SigstoreSigner(config=json.dumps(config).encode(), token=b"a.b.c")
    root[name] = [later(member) for member in root[name]]
    with pytest.raises(TrustUnusable, match=f"none of its {name} is of a known kind"):
        check(line, json.dumps(root).encode())


def test_a_log_that_is_left_out_vouches_for_nothing(instance: LoopbackSigstore) -> None:
    raw = keyless_line(instance, payload(), rekor=1)
    root = json.loads(root_of(instance))
    host = json.loads(raw)["verificationMaterial"]["tlogEntries"][0]["logId"]["keyId"]
    root["tlogs"] = [later_kind(log) if log["logId"]["keyId"] == host else log for log in root["tlogs"]]
    refusal(raw, json.dumps(root).encode())
