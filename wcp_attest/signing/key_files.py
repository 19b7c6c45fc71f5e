"""Key files as people have them: every key in a file counts, and what cannot be used is named.

Public keys are read as PEM (SubjectPublicKeyInfo) or OpenSSH lines, private keys as PEM (PKCS#8 or the older EC form)
or OpenSSH, encrypted or not. A PEM block may have around it what tools and editors leave there: comments, a byte order
mark, CRLF, indentation, line breaks written as `\\n`. No key is skipped in silence: a file with a second key is
read whole or refused.
"""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING, Final, NamedTuple

from wcp_attest.base.errors import ConfigError
from wcp_attest.signing.secret_text import UTF8_MARK, UTF16_MARKS

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_KEYS: Final = 100  # of one file; each is a signer of its own
# Work for a passphrase, each some ten seconds; programs write a hundredth of it.
MAX_BCRYPT_ROUNDS: Final = 1_000
MAX_PBKDF2_ROUNDS: Final = 20_000_000
MAX_SCRYPT_BLOCKS: Final = 1 << 21  # of 128 bytes: 256 MiB
MAX_SCRYPT_WORK: Final = 1 << 24
_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,60})-----")
_SPACE: Final = re.compile(rb"\s+")
_ESCAPED_BREAK: Final = re.compile(rb"\\r|\\n")
_SSH_KEY: Final = re.compile(rb"(ssh-[a-z0-9]+|ecdsa-sha2-[a-z0-9]+|sk-[a-z0-9-]+)(-cert-v01)?(@openssh\.com)? ")
_OTHER_KINDS: Final[tuple[tuple[bytes, str], ...]] = (
    (b"---- BEGIN SSH2 PUBLIC KEY", "an RFC 4716 (SSH2) key; convert it with `ssh-keygen -i -f FILE`"),
    (b"-----BEGIN PGP", "an OpenPGP key, which is not supported; make one with `wcp-attest keygen`"),
    (b"untrusted comment:", "a minisign or signify key, which is not supported; make one with `wcp-attest keygen`"),
    (b"PuTTY-User-Key-File", "a PuTTY key; export it in OpenSSH form with PuTTYgen"),
    (b'"kty"', "a JSON Web Key (JWK); convert it to PEM"),
    (b"AGE-SECRET-KEY-", "an age key, which encrypts and cannot sign; make one with `wcp-attest keygen`"),
)
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")
_BASE64_OF_BEGIN: Final = b"LS0tLS1CRUdJTi"  # of `-----BEGIN`
_BASE64_OF_DER: Final = b"M"  # of a SEQUENCE, as every key in DER begins
_OTHER_BLOCKS: Final = {
    "CERTIFICATE": "a certificate; take its key out with `openssl x509 -pubkey -noout -in FILE`",
    "RSA PUBLIC KEY": "an RSA key, which is not supported; make one with `wcp-attest keygen`",
    "CERTIFICATE REQUEST": "a certificate request; give the public key alone",
    "ENCRYPTED SIGSTORE PRIVATE KEY": "in cosign's own format; make a key with `wcp-attest keygen`",
    "ENCRYPTED COSIGN PRIVATE KEY": "in cosign's own format; make a key with `wcp-attest keygen`",
}
_PRIVATE_BLOCKS: Final = (
    "PRIVATE KEY",
    "ENCRYPTED PRIVATE KEY",
    "EC PRIVATE KEY",
    "RSA PRIVATE KEY",
    "DSA PRIVATE KEY",
    "OPENSSH PRIVATE KEY",
)


class PemBlock(NamedTuple):
    """One block of a PEM file, written as RFC 7468 has it.

    Attributes:
        label: what stands in its BEGIN line.
        pem: the block.
        body: its content, decoded.
    """

    label: str
    pem: bytes
    body: bytes


def load_public_keys(data: bytes, what: str) -> tuple[object, ...]:
    """Return all public keys of a file. Their types are not checked here.

    Args:
        data: the bytes of the file: PEM (RFC 7468), or lines as OpenSSH writes them (sshd(8), AUTHORIZED_KEYS).
        what: the file's name, for messages.

    Returns:
        At least one key, as an object of `cryptography`, in the order of the file.

    Raises:
        ConfigError: it holds no public key, something else beside, or more than `MAX_KEYS`.
    """
    text = _text(data, what)
    blocks, around = _pem_blocks(text, what)
    if not blocks:
        return _ssh_keys(text, what)
    if any(_SSH_KEY.match(line.lstrip()) for line in around.splitlines()):
        raise ConfigError(f"{what} holds keys in PEM and in OpenSSH form; put them into files of their own")
    found: list[object] = []
    for block in blocks:
        if "PRIVATE KEY" in block.label:
            raise ConfigError(f"{what} is a private key; give the public one, and keep this one off hosts that verify")
        if block.label == "PUBLIC KEY":
            found.append(_load_public(block.pem, what, openssh=False))
        elif block.label != "EC PARAMETERS":
            raise ConfigError(f"{what} is {_kind_of_block(block.label)}")
    if not found:
        raise ConfigError(f"{what} holds no public key")
    return tuple(found)


def load_private_key(data: bytes, passphrase: bytes | None, what: str) -> object:
    """Return the one private key of a file. Its type is not checked here.

    Args:
        data: the bytes of the file: PEM (PKCS#8, RFC 5958, or the older EC form, RFC 5915) or OpenSSH (PROTOCOL.key).
        passphrase: of an encrypted key; not used for one that is not encrypted.
        what: the file's name, for messages.

    Returns:
        The key, as an object of `cryptography`.

    Raises:
        ConfigError: it holds no private key, several, or something else beside; or the passphrase is missing or wrong;
            or the cipher or kind of key is not supported.
    """
    text = _text(data, what)
    blocks, _ = _pem_blocks(text, what)
    private = [block for block in blocks if block.label in _PRIVATE_BLOCKS]
    if not private:
        if any(block.label == "PUBLIC KEY" for block in blocks) or (not blocks and _SSH_KEY.match(text.lstrip())):
            raise ConfigError(f"{what} is a public key; signing needs the private one")
        if blocks:
            raise ConfigError(f"{what} is {_kind_of_block(blocks[0].label)}")
        raise ConfigError(f"{what} is {_kind_of(text) or 'not a private key in PEM or OpenSSH form'}")
    if len(private) > 1:
        raise ConfigError(f"{what} holds {len(private)} private keys; put each into a file of its own")
    for block in blocks:  # a public key beside it is allowed: it adds nothing
        if block is not private[0] and block.label not in {"PUBLIC KEY", "EC PARAMETERS"}:
            raise ConfigError(
                f"{what} holds a private key and beside it {block.label!r}; put the private key into a file of its own"
            )
    return _open_private(private[0], passphrase, what)


def is_encrypted(data: bytes) -> bool:
    """Tell whether a private key's file needs a passphrase.

    Args:
        data: the bytes of the file.

    Returns:
        False also for what is no key; reading it says what is wrong.
    """
    try:
        blocks, _ = _pem_blocks(_text(data, "the key"), "the key")
    except ConfigError:
        return False
    for block in blocks:
        if block.label == "ENCRYPTED PRIVATE KEY" or b"Proc-Type: 4,ENCRYPTED" in block.pem:
            return True
        if block.label == "OPENSSH PRIVATE KEY":
            # openssh-portable, PROTOCOL.key: a magic of 15 bytes, then the name of the cipher
            return not block.body.startswith(b"openssh-key-v1\0\0\0\0\x04none")
    return False


def _text(data: bytes, what: str) -> bytes:
    """Return what a key file says, or refuse an encoding in which no tool writes keys."""
    if data.startswith(UTF16_MARKS) or (b"B\0E\0G\0I\0N" in data or b"\0B\0E\0G\0I\0N" in data):
        raise ConfigError(f"{what} is in UTF-16; save it as UTF-8")
    text = data.removeprefix(UTF8_MARK)
    if not text.strip():
        raise ConfigError(f"{what} is empty")
    if text[:1] == b"\x30" and text.translate(None, bytes(range(32, 127)) + b"\r\n\t"):
        raise ConfigError(f"{what} is in DER form; convert it with `openssl pkey -inform DER` (-pubin: a public key)")
    return text


def _pem_blocks(text: bytes, what: str) -> tuple[list[PemBlock], bytes]:
    """Return the blocks of a PEM file, and the text around them."""
    blocks: list[PemBlock] = []
    around: list[bytes] = []
    at = 0
    while found := _BEGIN.search(text, at):
        if found[1].startswith(b"PGP "):
            raise ConfigError(f"{what} is {_kind_of(text)}")
        end_line = b"-----END " + found[1] + b"-----"
        end = text.find(end_line, found.end())
        if end < 0:
            raise ConfigError(f"{what} is cut short: it has no `{end_line.decode()}` line")
        if len(blocks) == MAX_KEYS:
            raise ConfigError(f"{what} holds more than {MAX_KEYS} keys; is it the right file?")
        around.append(text[at : found.start()])
        lines = _ESCAPED_BREAK.sub(b"\n", text[found.end() : end]).splitlines()
        headers = [line.strip() for line in lines if b":" in line]  # of the older encryption, RFC 1421
        encoded = _SPACE.sub(b"", b"".join(line for line in lines if b":" not in line))
        try:
            body = a2b_base64(encoded, strict_mode=True)
        except Base64Error:
            raise ConfigError(f"{what} is damaged: its block {found[1].decode()!r} is not base64") from None
        wrapped = b"".join(b2a_base64(body[start : start + 48]) for start in range(0, len(body), 48))
        head = b"".join(header + b"\n" for header in headers) + (b"\n" if headers else b"")
        pem = b"-----BEGIN %s-----\n%s%s%s\n" % (found[1], head, wrapped, end_line)
        blocks.append(PemBlock(found[1].decode(), pem, body))
        at = end + len(end_line)
    around.append(text[at:])
    return blocks, b"\n".join(around)


def _ssh_keys(text: bytes, what: str) -> tuple[object, ...]:
    found: list[object] = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        key = _SSH_KEY.match(line)
        if key is None:
            kind = _kind_of(text)
            if kind is None and _SSH_KEY.search(text):
                kind = "an OpenSSH key with other lines or words before it; give lines that begin with the key's kind"
            raise ConfigError(f"{what} is {kind or 'not a public key in PEM or OpenSSH form'}")
        if key[2] or key[1].startswith(b"sk-"):
            kind = "an OpenSSH certificate" if key[2] else "the key of a security token (FIDO)"
            raise ConfigError(f"{what} is {kind}, which is not supported; make a key with `wcp-attest keygen`")
        if len(found) == MAX_KEYS:
            raise ConfigError(f"{what} holds more than {MAX_KEYS} keys; is it the right file?")
        found.append(_load_public(line, what, openssh=True))
    return tuple(found)


def _load_public(data: bytes, what: str, *, openssh: bool) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

    try:
        return load_ssh_public_key(data) if openssh else load_pem_public_key(data)
    except UnsupportedAlgorithm as problem:
        raise ConfigError(
            f"{what} is a key of a kind that is not supported: {' '.join(str(problem).split())[:200]}"
        ) from None
    except (ValueError, NotImplementedError):  # the latter for a point that OpenSSH never writes
        raise ConfigError(f"{what} is not a public key in PEM or OpenSSH form: it is damaged") from None


def _open_private(block: PemBlock, passphrase: bytes | None, what: str) -> object:
    from cryptography.exceptions import InternalError, InvalidTag, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    load = load_ssh_private_key if block.label == "OPENSSH PRIVATE KEY" else load_pem_private_key
    encrypted = is_encrypted(block.pem)
    if encrypted:
        if not passphrase:
            raise ConfigError(f"{what} is encrypted; give its passphrase by --passphrase-file or prompt")
        if _is_slow(block):
            raise ConfigError(
                f"{what} is encrypted with so many rounds that opening it takes minutes, or too much memory; encrypt it"
                " again with fewer, by `ssh-keygen -p -a 100 -f FILE` or `openssl pkcs8 -topk8`"
            )
    try:
        return load(block.pem, passphrase if encrypted else None)
    except (UnsupportedAlgorithm, InvalidTag, InternalError, ValueError, TypeError, NotImplementedError) as problem:
        said = " ".join(str(problem).split())[:200]
        if encrypted and ("cipher" in said or "encryption algorithm" in said):
            why = f"is encrypted with a cipher that is not supported ({said}); encrypt it with AES-256 instead"
        elif isinstance(problem, UnsupportedAlgorithm):
            why = f"is a key of a kind that is not supported: {said}"
        elif encrypted:
            why = "cannot be read: its passphrase is wrong, or the file is damaged"
        else:
            why = "cannot be read: it is not a private key in PEM (PKCS#8) or OpenSSH form, or it is damaged"
        raise ConfigError(f"{what} {why}") from None


def _is_slow(block: PemBlock) -> bool:
    """Tell whether making the key of the encryption out of the passphrase takes more work than anybody needs.

    The file says how much (bcrypt: openssh-portable, PROTOCOL.key; PBKDF2: RFC 8018, appendix A.2; scrypt: RFC 7914,
    section 7), and a hostile one may ask for days. A file that is malformed is left to the library.
    """
    if block.label == "OPENSSH PRIVATE KEY":
        body, at = block.body, 15
        for _ in range(2):  # the names of cipher and derivation; then its options: a salt and the rounds
            at += 4 + int.from_bytes(body[at : at + 4], "big")
        at += 8 + int.from_bytes(body[at + 4 : at + 8], "big")
        return int.from_bytes(body[at : at + 4], "big") > MAX_BCRYPT_ROUNDS
    if block.label != "ENCRYPTED PRIVATE KEY":
        return False
    for numbers in _sequences_of_numbers(block.body):
        if len(numbers) >= 3:  # those of scrypt: N, r and p
            cost, width, copies = numbers[:3]
            if cost * width > MAX_SCRYPT_BLOCKS or cost * width * copies > MAX_SCRYPT_WORK:
                return True
        elif numbers and max(numbers) > MAX_PBKDF2_ROUNDS:
            return True
    return False


def _sequences_of_numbers(der: bytes) -> Iterator[list[int]]:
    """Yield the integers of each SEQUENCE in DER (X.690), the outermost first; of a damaged one, as far as it goes."""
    sequences = [der]
    while sequences:
        data, at = sequences.pop(), 0
        numbers: list[int] = []
        while at + 2 <= len(data):
            tag, size, at = data[at], data[at + 1], at + 2
            if size & 0x80:
                size, at = int.from_bytes(data[at : at + (size & 0x7F)], "big"), at + (size & 0x7F)
            if tag == 0x30:
                sequences.append(data[at : at + size])
            elif tag == 0x02:
                numbers.append(int.from_bytes(data[at : at + size], "big"))
            at += size
        yield numbers


def _kind_of_block(label: str) -> str:
    """Say what a PEM block is that holds no key of the kind that is asked for."""
    return _OTHER_BLOCKS.get(label, f"not a key but {label!r} in PEM form")


def _kind_of(text: bytes) -> str | None:
    """Say what a file without a PEM block is; None when nothing is recognised."""
    plain = _SPACE.sub(b"", text)
    if _BASE64.fullmatch(plain) and plain.startswith(_BASE64_OF_BEGIN):
        return "the base64 of a key file; decode it first, with `base64 -d`"
    if _BASE64.fullmatch(plain) and plain.startswith(_BASE64_OF_DER):
        return "a key without the lines `-----BEGIN …-----` and `-----END …-----` around it; give the whole file"
    return next((words for mark, words in _OTHER_KINDS if mark in text), None)
