"""The signature file: one accepted form a line, whatever is thrown at it."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcp_attest.base.errors import SignatureInvalid, SignatureMissing
from wcp_attest.package.signature_file import (
    MAX_LINE_BYTES,
    MAX_LINES,
    MAX_SIGNATURE_FILE_BYTES,
    Envelope,
    pae,
    parse_line,
    parse_lines,
    render_signature,
)

HINT = "ab" * 32
TAG = "hmac-sha256:0123456789abcdef"
ENVELOPE = Envelope(b'{"a":1}', b"signature")


def test_the_encoding_is_that_of_the_dsse_specification() -> None:
    # The example of the DSSE protocol document.
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(payload=st.binary(min_size=1), signature=st.binary(min_size=1), kind=st.text(min_size=1, max_size=40))
def test_lines_round_trip(payload: bytes, signature: bytes, kind: str) -> None:
    kind = kind.encode("utf-8", "replace").decode()
    line = parse_line(render_signature(Envelope(payload, signature, kind), HINT))
    assert (line.kind, line.hint, line.envelope) == ("key", HINT, Envelope(payload, signature, kind))
    line = parse_line(render_signature(Envelope(payload, signature, kind, TAG)))
    assert (line.kind, line.hint, line.envelope) == ("hmac", TAG, Envelope(payload, signature, kind, TAG))


@given(st.binary(max_size=200))
def test_rubbish_is_refused_and_never_crashes(data: bytes) -> None:
    with pytest.raises((SignatureInvalid, SignatureMissing)):
        parse_lines(data)


@pytest.mark.parametrize("data", [b"", b"\n", b"  \n\t\n"])
def test_no_signature_is_a_reason_of_its_own(data: bytes) -> None:
    with pytest.raises(SignatureMissing, match="wcp-attest sign"):
        parse_lines(data)


def changed(**fields: object) -> bytes:
    bundle = json.loads(render_signature(ENVELOPE, HINT))
    for path, value in fields.items():
        *parents, last = path.split("__")
        place = bundle
        for parent in parents:
            place = place[parent]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return json.dumps(bundle).encode()


@pytest.mark.parametrize(
    "line",
    [
        changed(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.2"),
        changed(mediaType=1),
        changed(extra=1),
        changed(verificationMaterial=...),
        changed(verificationMaterial=[]),
        changed(verificationMaterial={}),
        changed(verificationMaterial__publicKey={}),
        changed(verificationMaterial__publicKey={"hint": 1}),
        changed(verificationMaterial__publicKey={"hint": HINT, "other": 1}),
        changed(verificationMaterial__certificate={"rawBytes": ""}),
        changed(dsseEnvelope=...),
        changed(dsseEnvelope=[]),
        changed(dsseEnvelope__payload=""),
        changed(dsseEnvelope__payload="!"),
        changed(dsseEnvelope__payload="YQ"),
        changed(dsseEnvelope__payload="YR=="),
        changed(dsseEnvelope__payload="Y Q=="),
        changed(dsseEnvelope__payload="YQ==\n"),
        changed(dsseEnvelope__payload="YQ=="[::-1]),
        changed(dsseEnvelope__payload="é"),
        changed(dsseEnvelope__payloadType=None),
        changed(dsseEnvelope__payloadType="\ud800"),
        changed(dsseEnvelope__payloadType="application/\udfff"),
        changed(verificationMaterial__tlogEntries=[]),
        changed(verificationMaterial__timestampVerificationData={}),
        changed(verificationMaterial__invented=1),
        changed(dsseEnvelope__extra=1),
        changed(dsseEnvelope__signatures=[]),
        changed(dsseEnvelope__signatures=[{"sig": "YQ=="}, {"sig": "YQ=="}]),
        changed(dsseEnvelope__signatures=[{"sig": "YQ==", "cert": "x"}]),
        changed(dsseEnvelope__signatures=[{"sig": "YQ==", "keyid": 1}]),
        render_signature(ENVELOPE),
        render_signature(Envelope(b"a", b"b", keyid="sha256:00")),
        b"[]",
        b'"text"',
        b"null",
        b"{}",
        render_signature(ENVELOPE, HINT)[:-1],
        render_signature(ENVELOPE, HINT) + b"x",
        render_signature(ENVELOPE, HINT).replace(b'"mediaType"', b'"mediaType":"x","mediaType"', 1),
        b"\xef\xbb\xbf" + render_signature(ENVELOPE, HINT),
        b"\xff" + render_signature(ENVELOPE, HINT),
    ],
)
def test_every_other_form_is_refused(line: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        parse_lines(line)


def test_sizes_and_counts_are_bounded() -> None:
    line = render_signature(ENVELOPE, HINT)
    assert len(parse_lines((line + b"\n") * MAX_LINES)) == MAX_LINES
    with pytest.raises(SignatureInvalid, match="more than"):
        parse_lines((line + b"\n") * (MAX_LINES + 1))
    with pytest.raises(SignatureInvalid, match="larger"):
        parse_lines(b"x" * (MAX_SIGNATURE_FILE_BYTES + 1))
    with pytest.raises(SignatureInvalid, match="larger"):
        parse_lines(render_signature(Envelope(b"x" * MAX_LINE_BYTES, b"s"), HINT))
    with pytest.raises(SignatureInvalid, match="nested"):
        parse_lines(b"[" * 100_000)


def test_one_bad_line_spoils_the_file() -> None:
    good = render_signature(ENVELOPE, HINT)
    with pytest.raises(SignatureInvalid, match="line 2"):
        parse_lines(good + b"\n" + good[:-1] + b"\n")
    with pytest.raises(SignatureInvalid, match="line 2"):
        parse_lines(good + b"\n\n" + good + b"\n")


def test_base64_is_that_of_the_rest_of_the_world() -> None:
    fields = json.loads(render_signature(Envelope(bytes(range(256)), b"\xff\xfe"), HINT))["dsseEnvelope"]
    assert base64.standard_b64decode(fields["payload"]) == bytes(range(256))
    assert fields["signatures"] == [{"sig": "//4="}]
