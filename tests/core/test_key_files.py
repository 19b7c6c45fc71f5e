"""Key and secret files as people have them: read as they are meant, or refused by name."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from base64 import b64decode, b64encode, encodebytes
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.loopback_sigstore import der
from wcp_attest import ConfigError, HmacSecret, KeySigner, Namespace, TrustedKey
from wcp_attest.signing.key import generate
from wcp_attest.signing.key_files import is_encrypted
from wcp_attest.signing.secret_text import secret_line

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS = Path(__file__).parents[1] / "vectors" / "mldsa_65.json"
A, B = generate(), generate()
PEM, OTHER_PEM = A.public_pem(), B.public_pem()
PRIVATE = A.to_pem(None)
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="LOUD SKIP: openssl is not installed")
needs_ssh = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="LOUD SKIP: ssh-keygen is not installed")


def ssh_line(signer: KeySigner) -> bytes:
    return signer.private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def each_line(change: Callable[[bytes], bytes], data: bytes) -> bytes:
    return b"".join(change(line) + b"\n" for line in data.splitlines())


AS_PEOPLE_HAVE_IT: dict[str, Callable[[bytes], bytes]] = {
    "crlf": lambda pem: pem.replace(b"\n", b"\r\n"),
    "byte order mark": lambda pem: b"\xef\xbb\xbf" + pem,
    "comments": lambda pem: b"# release key\n" + pem + b"# end\n",
    "indented": lambda pem: each_line(lambda line: b"    " + line, pem),
    "blanks at line ends": lambda pem: each_line(lambda line: line + b"  ", pem),
    "no last line break": lambda pem: pem.rstrip(),
    "one line": lambda pem: pem.replace(b"\n", b" "),
    "empty lines": lambda pem: b"\n" + pem + b"\n\n",
    "escaped line breaks": lambda pem: pem.replace(b"\n", b"\\n"),
    "escaped CRLF": lambda pem: pem.replace(b"\n", b"\\r\\n"),
    "curve parameters": lambda pem: (
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + pem
    ),
}


@pytest.mark.parametrize("spelling", AS_PEOPLE_HAVE_IT)
def test_reads_pem_as_editors_and_variables_leave_it(spelling: str) -> None:
    change = AS_PEOPLE_HAVE_IT[spelling]
    assert TrustedKey.from_file_bytes(change(PEM)) == A.trusted
    assert KeySigner.from_file_bytes(change(PRIVATE)).trusted == A.trusted
    for signer in (generate("p384"), generate("ml-dsa-65")):
        assert TrustedKey.from_file_bytes(change(signer.public_pem())) == signer.trusted
        assert KeySigner.from_file_bytes(change(signer.to_pem(b"x")), b"x").trusted == signer.trusted


@needs_openssl
@pytest.mark.parametrize("form", ["-conv_form compressed", "-conv_form hybrid", "-param_enc explicit"])
def test_every_encoding_of_one_elliptic_key_is_one_signer(tmp_path: Path, form: str) -> None:
    signer = generate("p256")
    (tmp_path / "key").write_bytes(signer.to_pem(None))
    command = ["openssl", "ec", "-in", str(tmp_path / "key"), *form.split()]
    other = TrustedKey.from_file_bytes(subprocess.run([*command, "-pubout"], capture_output=True, check=True).stdout)
    assert other == signer.trusted
    assert KeySigner.from_file_bytes(subprocess.run(command, capture_output=True, check=True).stdout).trusted == other
    with pytest.raises(ConfigError, match="twice"):
        Namespace("org.acme", (signer.trusted, other), threshold=2)


def test_reads_every_public_key_of_a_file() -> None:
    both = {A.trusted, B.trusted}
    assert set(TrustedKey.all_from_file_bytes(PEM + b"# the second\n" + OTHER_PEM)) == both
    assert set(TrustedKey.all_from_file_bytes(ssh_line(A) + b" one\n\n" + ssh_line(B) + b" two\n")) == both


def test_refuses_several_keys_where_one_is_meant() -> None:
    for two in (PEM + OTHER_PEM, PEM + PEM, ssh_line(A) + b"\n" + ssh_line(B)):
        with pytest.raises(ConfigError, match="holds 2 public keys"):
            TrustedKey.from_file_bytes(two)
    with pytest.raises(ConfigError, match="holds 2 private keys"):
        KeySigner.from_file_bytes(PRIVATE + B.to_pem(None))


def test_refuses_more_keys_than_a_file_may_hold() -> None:
    with pytest.raises(ConfigError, match="more than 100 keys"):
        TrustedKey.all_from_file_bytes(PEM * 101)
    with pytest.raises(ConfigError, match="more than 100 keys"):
        TrustedKey.all_from_file_bytes((ssh_line(A) + b"\n") * 101)


def test_refuses_a_file_that_mixes_forms_or_holds_something_else() -> None:
    certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    for data, said in (
        (PEM + ssh_line(B) + b"\n", "in PEM and in OpenSSH form"),
        (PEM + PRIVATE, "is a private key"),
        (PEM + certificate, "is a certificate; take its key out"),
        (certificate, "is a certificate; take its key out"),
        (PEM + b"-----BEGIN PUBLIC KEY-----\nAAAA", "cut short"),
        (PEM + b"-----BEGIN PUBLIC KEY-----\n====\n-----END PUBLIC KEY-----\n", "not base64"),
    ):
        with pytest.raises(ConfigError, match=said):
            TrustedKey.all_from_file_bytes(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (PEM.decode().encode("utf-16"), "UTF-16"),
        (PEM.decode().encode("utf-16-le"), "UTF-16"),
        (PEM.decode().encode("utf-16-be"), "UTF-16"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b64decode(b"".join(PEM.splitlines()[1:-1])), "in DER form"),
        (b'{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}', "JSON Web Key"),
        (b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n---- END SSH2 PUBLIC KEY ----\n", "RFC 4716"),
        (b"untrusted comment: minisign public key 1\nRWQAAA\n", "minisign or signify"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n=abcd\n-----END PGP PUBLIC KEY BLOCK-----\n", "OpenPGP"),
        (b"PuTTY-User-Key-File-3: ssh-ed25519\n", "PuTTY"),
        (b"# created: 2026\nAGE-SECRET-KEY-1QQQ\n", "an age key"),
        (b64encode(PEM), "the base64 of a key file"),
        (encodebytes(PEM), "the base64 of a key file"),
        (b"".join(PEM.splitlines()[1:-1]), "without the lines"),
        (b"# release\n" + ssh_line(A) + b"\n", "with other lines or words before it"),
        (b'restrict,command="x" ' + ssh_line(A) + b"\n", "with other lines or words before it"),
        (b"ssh-ed25519-cert-v01@openssh.com AAAA\n", "an OpenSSH certificate"),
        (b"sk-ssh-ed25519@openssh.com AAAA\n", "security token"),
        (b"ssh-rsa AAAA\n", "damaged"),
        (b"-----BEGIN RSA PUBLIC KEY-----\nAAAA\n-----END RSA PUBLIC KEY-----\n", "is an RSA key"),
        (b"-----BEGIN THING-----\nAAAA\n-----END THING-----\n", "'THING' in PEM form"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the data hold new keys each time
)
def test_names_what_is_no_public_key(data: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        TrustedKey.all_from_file_bytes(data)
    assert "of a supported type" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (PRIVATE + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "a private key and beside it"),
        (b64encode(PRIVATE), "the base64 of a key file"),
        (b"".join(PRIVATE.splitlines()[1:-1]), "without the lines"),
        (PEM, "is a public key"),
    ],
    ids=["with a certificate", "base64", "without its lines", "public"],
)
def test_names_what_is_no_private_key(data: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        KeySigner.from_file_bytes(data)


def test_signs_with_a_private_key_beside_a_public_one() -> None:
    assert KeySigner.from_file_bytes(PRIVATE + PEM).trusted == A.trusted
    assert KeySigner.from_file_bytes(OTHER_PEM + PRIVATE).trusted == A.trusted


@needs_openssl
@pytest.mark.parametrize("cipher", ["-v2 aes256", "-v2 des3", "-scrypt", "-v1 PBE-SHA1-3DES"])
def test_opens_keys_that_openssl_encrypted(tmp_path: Path, cipher: str) -> None:
    assert KeySigner.from_file_bytes(openssl_pkcs8(tmp_path, cipher), b"hunter2").trusted == A.trusted


@needs_openssl
@pytest.mark.parametrize("cipher", ["-v2 camellia256", "-v2 aria256"])
def test_names_the_cipher_that_it_cannot_open(tmp_path: Path, cipher: str) -> None:
    with pytest.raises(ConfigError, match="cipher that is not supported"):
        KeySigner.from_file_bytes(openssl_pkcs8(tmp_path, cipher), b"hunter2")


def openssl_pkcs8(folder: Path, cipher: str) -> bytes:
    (folder / "key").write_bytes(PRIVATE)
    options = ("-topk8", "-in", "key", "-passout", "pass:hunter2", "-out", "out")
    subprocess.run(["openssl", "pkcs8", *options, *cipher.split()], cwd=folder, check=True)
    return (folder / "out").read_bytes()


@needs_ssh
@pytest.mark.parametrize(
    ("cipher", "said"),
    [
        ("aes256-ctr", None),
        ("aes256-gcm@openssh.com", None),
        ("aes128-gcm@openssh.com", "cipher"),
        ("chacha20-poly1305@openssh.com", "cipher"),
    ],
)
def test_opens_or_names_the_ciphers_of_openssh(tmp_path: Path, cipher: str, said: str | None) -> None:
    path = tmp_path / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "hunter2", "-Z", cipher, "-f", path], check=True)
    data = path.read_bytes()
    assert is_encrypted(data)
    assert is_encrypted(data.replace(b"\n", b"\r\n"))
    if said is not None:
        with pytest.raises(ConfigError, match=said):
            KeySigner.from_file_bytes(data, b"hunter2")
        return
    public = TrustedKey.from_file_bytes(path.with_suffix(".pub").read_bytes())
    assert KeySigner.from_file_bytes(data, b"hunter2").trusted == public
    with pytest.raises(ConfigError, match="passphrase is wrong"):
        KeySigner.from_file_bytes(data, b"wrong")


def test_tells_which_keys_ask_for_a_passphrase() -> None:
    plain, encrypted = ed25519.Ed25519PrivateKey.generate(), BestAvailableEncryption(b"x")
    elliptic = ec.generate_private_key(ec.SECP256R1())
    for form, key in (
        (PrivateFormat.PKCS8, plain),
        (PrivateFormat.OpenSSH, plain),
        (PrivateFormat.TraditionalOpenSSL, elliptic),
    ):
        assert not is_encrypted(key.private_bytes(Encoding.PEM, form, NoEncryption()))
        closed = key.private_bytes(Encoding.PEM, form, encrypted)
        assert is_encrypted(closed)
        assert KeySigner.from_file_bytes(closed.replace(b"\n", b"\r\n"), b"x").trusted.spki


def armored(label: str, body: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + encodebytes(body) + f"-----END {label}-----\n".encode()


def sequence(*parts: bytes) -> bytes:
    return der.encode(der.SEQUENCE, *parts)


def encrypted_by(derivation: str, *numbers: int) -> bytes:
    """A PKCS#8 key that asks for this derivation (RFC 8018, appendix A); nothing behind it is a key."""
    parameters = sequence(der.encode(der.OCTET_STRING, b"salt"), *map(der.integer, numbers))
    kdf = sequence(der.object_identifier(derivation), parameters)
    cipher = sequence(der.object_identifier(AES_256_CBC), der.encode(der.OCTET_STRING, bytes(16)))
    scheme = sequence(der.object_identifier(PBES2), sequence(kdf, cipher))
    return armored("ENCRYPTED PRIVATE KEY", sequence(scheme, der.encode(der.OCTET_STRING, bytes(48))))


def long_form(pem: bytes) -> bytes:
    """Say how long the whole is with more bytes than DER allows."""
    body = b64decode(b"".join(pem.splitlines()[1:-1]))
    assert body[1] < 0x80
    return armored("ENCRYPTED PRIVATE KEY", b"\x30\x82\0" + body[1:])


def bcrypt(rounds: int) -> bytes:
    """An OpenSSH key that asks for this many rounds (openssh-portable, PROTOCOL.key)."""
    whole = A.private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(b"x"))
    body = b64decode(b"".join(whole.splitlines()[1:-1]))
    end = body.index(b"bcrypt") + 6 + 4 + 4 + 16  # the lengths of options and salt, and the salt
    return armored("OPENSSH PRIVATE KEY", body[:end] + rounds.to_bytes(4, "big") + body[end + 4 :])


PBKDF2, PBES2, PBE = "1.2.840.113549.1.5.12", "1.2.840.113549.1.5.13", "1.2.840.113549.1.12.1.3"
SCRYPT, AES_256_CBC = "1.3.6.1.4.1.11591.4.11", "2.16.840.1.101.3.4.1.42"


@pytest.mark.parametrize(
    "data",
    [
        bcrypt(1001),
        bcrypt(2**32 - 1),
        encrypted_by(PBKDF2, 2**31 - 1),
        encrypted_by(PBKDF2, 2**64, 32),
        long_form(encrypted_by(PBKDF2, 2**31 - 1)),
        encrypted_by(SCRYPT, 2**30, 8, 1),
        encrypted_by(SCRYPT, 2**14, 8, 2**20),
        encrypted_by(SCRYPT, 2, 2**29, 1),
        armored("ENCRYPTED PRIVATE KEY", sequence(sequence(der.object_identifier(PBE), sequence(der.integer(2**31))))),
    ],
    ids=[
        "bcrypt",
        "bcrypt-most",
        "pbkdf2",
        "pbkdf2-most",
        "pbkdf2-long",
        "scrypt-memory",
        "scrypt-time",
        "scrypt-width",
        "pkcs12",
    ],
)
def test_refuses_at_once_a_key_that_is_encrypted_with_absurdly_many_rounds(data: bytes) -> None:
    began = time.process_time()
    with pytest.raises(ConfigError, match="so many rounds"):
        KeySigner.from_file_bytes(data, b"x")
    assert time.process_time() - began < 1


def test_opens_keys_with_the_rounds_that_people_ask_for() -> None:
    assert KeySigner.from_file_bytes(bcrypt(16), b"x").trusted == A.trusted
    with pytest.raises(ConfigError, match="passphrase is wrong"):
        KeySigner.from_file_bytes(encrypted_by(PBKDF2, 600_000, 32), b"x")
    with pytest.raises(ConfigError, match="passphrase is wrong"):
        KeySigner.from_file_bytes(encrypted_by(SCRYPT, 2**14, 8, 1), b"x")


@given(st.binary(max_size=200), st.sampled_from(["ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY"]))
def test_any_bytes_in_place_of_an_encrypted_key_are_a_clear_refusal(body: bytes, label: str) -> None:
    prefix = b"openssh-key-v1\0" if label.startswith("OPENSSH") else b"\x30\x82\x00\xc8\x30"
    with pytest.raises(ConfigError) as refused:
        KeySigner.from_file_bytes(armored(label, prefix + body), b"x")
    assert len(str(refused.value).splitlines()) == 1


@given(st.binary(max_size=300) | st.builds(lambda a, b: a + PEM + b, st.binary(max_size=40), st.binary(max_size=40)))
def test_any_bytes_are_keys_or_a_clear_refusal(data: bytes) -> None:
    for read in (TrustedKey.all_from_file_bytes, KeySigner.from_file_bytes, HmacSecret.from_file_bytes):
        try:
            said = repr(read(data))
        except ConfigError as refusal:
            said = str(refusal)
        assert len(said.splitlines()) == 1


def test_work_grows_with_the_size_of_a_hostile_key_file() -> None:
    for data in (b"-----BEGIN A-----" * 3500, b"-----BEGIN A-----\n-----END A-----\n" * 99, b"ssh-rsa A\n" * 6000):
        with pytest.raises(ConfigError):
            TrustedKey.all_from_file_bytes(data)


def edwards_small_order_points() -> list[bytes]:
    """The y coordinates of the points of order 1, 2, 4 and 8 on edwards25519, from its equation."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    # Order 8: x^2 = y^2 or x^2 = -y^2 with -x^2 + y^2 = 1 + d x^2 y^2; for y^2 = -x^2: 2 y^2 = 1 - d y^4.
    ys = {0, 1, p - 1}
    root = pow(1 + d, (p + 3) // 8, p)
    for sqrt in (root, root * pow(2, (p - 1) // 4, p) % p):
        if sqrt * sqrt % p == (1 + d) % p:
            for sign in (sqrt, p - sqrt):
                y2 = (sign - 1) * pow(d, -1, p) % p
                y = pow(y2, (p + 3) // 8, p)
                for candidate in (y, y * pow(2, (p - 1) // 4, p) % p):
                    if candidate * candidate % p == y2:
                        ys |= {candidate, p - candidate}
    return [(y | sign << 255).to_bytes(32, "little") for y in ys for sign in (0, 1)]


def test_refuses_ed25519_keys_for_which_anybody_can_sign() -> None:
    prefix = bytes.fromhex("302a300506032b6570032100")
    points = edwards_small_order_points()
    assert len(points) == 10
    # Of the identity the forgery is one line: R = identity, S = 0 holds over every message.
    forged = bytes([1]) + bytes(63)
    ed25519.Ed25519PublicKey.from_public_bytes(bytes([1]) + bytes(31)).verify(forged, b"any message")
    for point in points:
        with pytest.raises(ConfigError, match="anybody could sign"):
            TrustedKey.from_file_bytes(
                b"-----BEGIN PUBLIC KEY-----\n" + b64encode(prefix + point) + b"\n-----END PUBLIC KEY-----\n"
            )
    for y in (2**255 - 19, 2**255 - 18, 2**255 - 1):  # second spellings of smaller y
        with pytest.raises(ConfigError, match="not canonical"):
            TrustedKey(prefix + y.to_bytes(32, "little"))


def test_ml_dsa_agrees_with_another_implementation() -> None:
    groups = json.loads(VECTORS.read_text())["testGroups"]
    seen = []
    for group in groups:
        spki = bytes.fromhex(group["publicKeyDer"])
        pem = b"-----BEGIN PUBLIC KEY-----\n" + b64encode(spki) + b"\n-----END PUBLIC KEY-----\n"
        for case in group["tests"]:
            # We sign with an empty context; a signature made for another context is none of ours.
            expected = case["result"] == "valid" and not case.get("ctx")
            try:
                key = TrustedKey.from_file_bytes(pem)
            except ConfigError:
                held = False
            else:
                held = key.verifies(bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
            assert held == expected, case["comment"]
            seen.append(expected)
    assert (seen.count(True), seen.count(False)) == (3, 14)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n", b"\n# rotated in March\n", b"\r\n\r\n"])
@pytest.mark.parametrize(
    "secret", [b"correct horse battery", " pässwörd ключ stück ".encode(), b"a\tb 0123456789abcdef"]
)
def test_a_secret_is_the_first_line(secret: bytes, end: bytes) -> None:
    assert secret_line(secret + end, "it") == secret
    assert secret_line(b"\xef\xbb\xbf" + secret + end, "it") == secret
    assert HmacSecret.from_file_bytes(secret + end) == HmacSecret(secret)


def test_refuses_secrets_in_encodings_that_change_them() -> None:
    for data in ("correct horse battery\n".encode("utf-16"), b"\xfe\xff" + "correct horse".encode("utf-16-be")):
        with pytest.raises(ConfigError, match="UTF-16"):
            HmacSecret.from_file_bytes(data)
    with pytest.raises(ConfigError, match="binary data with a line break"):
        HmacSecret.from_file_bytes(bytes(range(200, 232)) + b"\n" + bytes(range(16)))


@pytest.mark.parametrize("secret", [bytes(32), b"a" + bytes(31), bytes(20) + b"fifteen bytes!!" + bytes(20)])
def test_refuses_a_secret_that_is_mostly_zero_bytes(secret: bytes) -> None:
    with pytest.raises(ConfigError, match="shorter than 16 bytes"):
        HmacSecret(secret)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_refuses_a_secret_in_a_wide_encoding_without_a_mark(encoding: str) -> None:
    """It would verify here and nowhere else: another program reads the same text from a variable, in UTF-8."""
    with pytest.raises(ConfigError, match="many zero bytes"):
        HmacSecret.from_file_bytes("a secret of people, no newline".encode(encoding))
    with pytest.raises(ConfigError, match="many zero bytes"):
        HmacSecret(b"0123456789abcdef" + bytes(24) + b"end")


def test_refuses_a_key_that_the_library_meets_with_another_error() -> None:
    """Scrypt with no block at all is an internal error of OpenSSL; a compressed point is `NotImplementedError`."""
    scrypt = b"""-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGSME4GCSqGSIb3DQEFDTBBMCAGCSsGAQQB2kcECzATBAhz0smGINBDEgIBEAIBCAIBADAdBglg
hkgBZQMEASoEEE/mtrOTr5/lCUZsTGUlzgUEQEzfJHrXOkMfBrPS9ayFB7Zg4upO2pbQ7VrEfYHy
mpKtruK2nZSH2t6zoNHJdFI1w/NGcA5NeSwANSNtuGnGrcI=
-----END ENCRYPTED PRIVATE KEY-----
"""
    with pytest.raises(ConfigError, match="passphrase is wrong, or the file is damaged"):
        KeySigner.from_file_bytes(scrypt, b"pwpwpw")
    fields = (b"ecdsa-sha2-nistp256", b"nistp256", b"\x02" + bytes(32))
    blob = b"".join(len(each).to_bytes(4, "big") + each for each in fields)
    with pytest.raises(ConfigError, match="damaged"):
        TrustedKey.from_file_bytes(b"ecdsa-sha2-nistp256 " + b64encode(blob) + b" x\n")
