"""Keys and shared secrets: what they sign verifies, and nothing else does."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.tree.support import run_python
from wcp_attest import ConfigError, HmacSecret, KeySigner, TrustedKey
from wcp_attest.base.errors import SignatureInvalid
from wcp_attest.package.signature_file import PAYLOAD_TYPE, Envelope, pae, parse_line, render_signature
from wcp_attest.signing.key import KEY_TYPES, generate

if TYPE_CHECKING:
    from pathlib import Path

PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1"}'
SECRET = HmacSecret(b"0123456789abcdef")


OPENSSH_TYPES = [key_type for key_type in KEY_TYPES if key_type != "ml-dsa-65"]  # OpenSSH has no ML-DSA key form


def raw(key_type: str) -> Any:
    if key_type == "ml-dsa-65":
        return mldsa.MLDSA65PrivateKey.generate()
    if key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1() if key_type == "p256" else ec.SECP384R1())


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_what_a_key_signs_verifies_with_its_public_half_only(key_type: Any) -> None:
    signer, stranger = generate(key_type), generate(key_type)
    line = parse_line(signer.sign(PAYLOAD))
    assert signer.trusted.verify(line) == signer.check(line)
    assert signer.made(line)
    assert not stranger.made(line)
    with pytest.raises(SignatureInvalid):
        stranger.trusted.verify(line)


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_no_byte_of_signature_or_payload_can_change(key_type: Any) -> None:
    signer = generate(key_type)
    envelope = parse_line(signer.sign(PAYLOAD)).envelope
    hint = signer.trusted.key_id
    step = max(1, len(envelope.signature) // 200)  # each byte, but of the long signatures of ML-DSA
    for position in range(0, len(envelope.signature), step):
        signature = bytearray(envelope.signature)
        signature[position] ^= 1
        with pytest.raises(SignatureInvalid):
            signer.trusted.verify(parse_line(render_signature(Envelope(PAYLOAD, bytes(signature)), hint)))
    for position in range(len(PAYLOAD)):
        payload = bytearray(PAYLOAD)
        payload[position] ^= 1
        with pytest.raises(SignatureInvalid):
            signer.trusted.verify(parse_line(render_signature(Envelope(bytes(payload), envelope.signature), hint)))


def test_a_good_signature_under_another_payload_type_is_refused() -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    signer = KeySigner(private)
    kind = "application/vnd.other+json"
    envelope = Envelope(PAYLOAD, private.sign(pae(kind, PAYLOAD)), kind)
    line = parse_line(render_signature(envelope, signer.trusted.key_id))
    with pytest.raises(SignatureInvalid, match="not a statement"):
        signer.trusted.verify(line)
    tag = HmacSecret(SECRET.secret).sign(PAYLOAD)
    renamed = parse_line(render_signature(Envelope(PAYLOAD, parse_line(tag).envelope.signature, kind, SECRET.key_id)))
    with pytest.raises(SignatureInvalid):
        SECRET.verify(renamed)


def test_the_payload_type_is_under_the_signature() -> None:
    signer = generate()
    line = parse_line(signer.sign(PAYLOAD))
    swapped = Envelope(PAYLOAD, line.envelope.signature, "text/plain")
    with pytest.raises(SignatureInvalid):
        signer.trusted.verify(parse_line(render_signature(swapped, line.hint)))
    assert line.envelope.payload_type == PAYLOAD_TYPE


@pytest.mark.parametrize(
    ("form", "key_type"),
    [(PrivateFormat.PKCS8, key_type) for key_type in KEY_TYPES]
    + [(PrivateFormat.OpenSSH, key_type) for key_type in OPENSSH_TYPES],
)
@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_private_keys_are_read_from_pem_and_openssh(
    key_type: str, form: PrivateFormat, passphrase: bytes | None
) -> None:
    private = raw(key_type)
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    data = private.private_bytes(Encoding.PEM, form, protection)
    signer = KeySigner.from_file_bytes(data, passphrase)
    assert signer.trusted.spki == private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if passphrase:
        with pytest.raises(ConfigError, match="--passphrase-file"):
            KeySigner.from_file_bytes(data)
        with pytest.raises(ConfigError, match="passphrase is wrong"):
            KeySigner.from_file_bytes(data, b"wrong")


def as_the_library_reads(data: bytes) -> bytes | None:
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, UnsupportedAlgorithm):
        return None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def as_we_read(data: bytes) -> bytes | None:
    try:
        return KeySigner.from_file_bytes(data).trusted.spki
    except ConfigError:
        return None


@given(
    st.binary(min_size=32, max_size=32), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", " ", "\n\n", "\nmore"])
)
def test_plain_ed25519_keys_are_what_the_library_reads(seed: bytes, line_break: str, end: str) -> None:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(seed)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    data = (pem.replace("\n", line_break) + end).encode()
    assert as_we_read(data) == as_the_library_reads(data)
    assert as_we_read(pem.encode()) is not None


def agrees_with_the_library(data: bytes, before: bytes) -> bool:
    """Whether we read the library's key; where it reads none (blanks in lines), the key before the change or none."""
    ours, theirs = as_we_read(data), as_the_library_reads(data)
    return ours == theirs or (theirs is None and ours == as_the_library_reads(before))


def test_a_plain_ed25519_key_with_any_other_byte_is_what_the_library_reads() -> None:
    data = generate().to_pem(None)
    for at in range(len(data)):
        for byte in b"\0\n -=+/0AIQMaz\xff":
            changed = data[:at] + bytes([byte]) + data[at + 1 :]
            assert agrees_with_the_library(changed, data), changed
        shorter = data[:at] + data[at + 1 :]
        assert agrees_with_the_library(shorter, data), shorter


@pytest.mark.parametrize("key_type", OPENSSH_TYPES)
def test_public_keys_are_read_from_pem_and_openssh(key_type: str) -> None:
    public = raw(key_type).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    ssh = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" somebody@somewhere\n"
    assert TrustedKey.from_file_bytes(pem) == TrustedKey.from_file_bytes(ssh)


def unsupported_private() -> list[Any]:
    return [
        rsa.generate_private_key(65537, 2048),
        dsa.generate_private_key(2048),
        ed448.Ed448PrivateKey.generate(),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ]


def test_other_key_types_are_refused_by_name() -> None:
    for private in unsupported_private():
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with pytest.raises(ConfigError, match="unsupported type"):
            KeySigner.from_file_bytes(pem)
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(ConfigError, match="supported type"):
            TrustedKey.from_file_bytes(public)


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"ssh-ed25519 AAAA", b"-----BEGIN PUBLIC KEY-----\nAAAA\n"])
def test_rubbish_is_no_key(data: bytes) -> None:
    with pytest.raises(ConfigError):
        TrustedKey.from_file_bytes(data)
    with pytest.raises(ConfigError):
        KeySigner.from_file_bytes(data)


def test_a_private_key_in_place_of_a_public_one_is_named() -> None:
    with pytest.raises(ConfigError, match="private key"):
        TrustedKey.from_file_bytes(generate().to_pem(None))


def test_what_is_given_in_place_of_a_private_key_is_named() -> None:
    key = raw("ed25519").public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for public in (pem, key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)):
        with pytest.raises(ConfigError, match="is a public key"):
            KeySigner.from_file_bytes(public)
    for word in (b"SIGSTORE", b"COSIGN"):
        pem = b"-----BEGIN ENCRYPTED %b PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED %b PRIVATE KEY-----\n" % (word, word)
        with pytest.raises(ConfigError, match="cosign's own format; make a key with `wcp-attest keygen`"):
            KeySigner.from_file_bytes(pem, b"passphrase")


@pytest.mark.skipif(
    shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed: OpenSSH's own keys NOT tried"
)
def test_keys_of_openssh_itself(tmp_path: Path) -> None:
    file = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "hunter2 hunter2", "-f", str(file)], check=True)
    signer = KeySigner.from_file_bytes(file.read_bytes(), b"hunter2 hunter2")
    assert signer.trusted == TrustedKey.from_file_bytes(file.with_suffix(".pub").read_bytes())


def test_pem_written_is_pem_read() -> None:
    signer = generate("p384")
    assert KeySigner.from_file_bytes(signer.to_pem(b"pass"), b"pass").trusted == signer.trusted
    assert TrustedKey.from_file_bytes(signer.public_pem()) == signer.trusted
    key = serialization.load_pem_public_key(signer.public_pem())
    assert isinstance(key, ec.EllipticCurvePublicKey)


def test_a_secret_verifies_its_own_tags_only() -> None:
    line = parse_line(SECRET.sign(PAYLOAD))
    assert SECRET.verify(line).key_id == SECRET.key_id
    assert line.hint == SECRET.key_id
    other = HmacSecret(b"another secret, long enough")
    assert not other.made(line)
    with pytest.raises(SignatureInvalid):
        other.verify(line)


@pytest.mark.parametrize(
    "secret", [b"", b"short", b" " * 40, b"\n" * 64, b"fifteen bytes!!", b" fifteen bytes!! ", b"x" * 5000]
)
def test_weak_and_absurd_secrets_are_refused(secret: bytes) -> None:
    with pytest.raises(ConfigError):
        HmacSecret(secret)


def test_the_newline_of_a_secret_file_is_not_part_of_it() -> None:
    assert HmacSecret.from_file_bytes(SECRET.secret + b"\n") == SECRET
    assert HmacSecret.from_file_bytes(SECRET.secret + b"\r\n") == SECRET
    assert HmacSecret.from_file_bytes(SECRET.secret + b"\n\n") == SECRET


def test_no_secret_is_ever_printed() -> None:
    assert "0123456789abcdef" not in repr(SECRET)
    assert "PrivateKey" not in repr(generate())


def test_nobody_signs_for_a_package_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "code.py").write_text("print(1)")
    code = """
        import os, resource, sys
        from wcp_attest import ConfigError, build_manifest, sign
        from wcp_attest.signing.key import generate

        class Noisy:
            key = generate()

            def sign(self, payload):
                print("signed")
                return self.key.sign(payload)

            def check(self, line):
                return self.key.check(line)

            def made(self, line):
                return self.key.made(line)

        identity = {"worker_id": "org.acme.a", "worker_species_id": "wrk.a", "worker_version": "1"}
        for limit in (100, resource.RLIM_INFINITY):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                sign(sys.argv[1], [Noisy()], manifest=build_manifest(sys.argv[1], **identity))
            except ConfigError as problem:
                print(problem, sorted(os.listdir(sys.argv[1])))
    """
    done = run_python(code, str(tmp_path / "pkg"))
    refused, signed = done.stdout.splitlines()
    assert "file too large" in refused, done
    assert refused.endswith("nothing was changed ['code.py']"), done
    assert signed == "signed"
    assert sorted(path.name for path in (tmp_path / "pkg").iterdir()) == ["code.py", "manifest.json", "manifest.sig"]
