"""Signatures by a shared secret: HMAC-SHA256 (RFC 2104) over the DSSE encoding.

Everybody who can verify can also sign, so an HMAC proves nothing to a third party; a policy must name it explicitly.
The key id is the HMAC of a fixed text: it tells two secrets apart and reveals neither.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from hmac import compare_digest, digest

from wcp_attest.base.errors import ConfigError, SignatureInvalid
from wcp_attest.disk.files import absolute, read_bounded
from wcp_attest.package.signature_file import HMAC_PREFIX, PAYLOAD_TYPE, Envelope, Line, pae, render_signature
from wcp_attest.signing import SignedBy
from wcp_attest.signing.secret_text import secret_line

MIN_SECRET_BYTES = 16
MAX_SECRET_BYTES = 4096
MAX_FILE_BYTES = 4 * MAX_SECRET_BYTES  # room for comments after the first line
_PADDING = b"\0 \t\n\r\v\f"  # HMAC pads with zeros: a secret and the same with zeros behind it are one key
_TAG_TEXT = b"wcp-attest hmac-sha256 key id v1"


@dataclass(frozen=True, slots=True)
class HmacSecret:
    """A shared secret; signs and verifies.

    Attributes:
        secret: the bytes of the key: at most 4096, and at least 16 without zero bytes and white space at either end.
        file: where it was read from, if from a file; no package that is verified may hold it.

    Raises:
        ConfigError: the secret is too short, too long, or a quarter of it are zero bytes, as in UTF-16 or a cut file.
    """

    secret: bytes = field(repr=False)
    file: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        measured = self.secret.strip(_PADDING)
        if len(measured) < MIN_SECRET_BYTES:
            raise ConfigError(f"the HMAC secret is shorter than {MIN_SECRET_BYTES} bytes; use 32 random bytes, as hex")
        if measured.count(0) * 4 >= len(measured):  # of random bytes, fewer than one secret in a million
            raise ConfigError(
                "the HMAC secret holds many zero bytes; is its file damaged, or in UTF-16? use 32 random bytes, as hex"
            )
        if len(self.secret) > MAX_SECRET_BYTES:
            raise ConfigError(f"the HMAC secret is longer than {MAX_SECRET_BYTES} bytes; is it the right file?")

    @classmethod
    def from_file_bytes(cls, data: bytes) -> HmacSecret:
        """Take the first line of a secret's file or variable (`secret_text`).

        Args:
            data: all its bytes, at most 16 KiB.

        Returns:
            The secret.

        Raises:
            ConfigError: it is in UTF-16, binary with line breaks, too short, too long, or holds many zero bytes.
        """
        if len(data) > MAX_FILE_BYTES:
            raise ConfigError(f"the HMAC secret is longer than {MAX_SECRET_BYTES} bytes; is it the right file?")
        return cls(secret_line(data, "the HMAC secret"))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> HmacSecret:
        """Take the first line of a secret's file.

        Args:
            path: the file; it may be a link, or a pipe that a shell opened (`<(…)`).

        Returns:
            The secret; it knows the file's absolute path.

        Raises:
            ConfigError: it cannot be read, or as `from_file_bytes`.
        """
        file = os.fspath(path)
        data = read_bounded(file, limit=MAX_FILE_BYTES, what="the HMAC secret file", follow=True, pipe=True)
        return replace(cls.from_file_bytes(data), file=absolute(file))

    @property
    def key_id(self) -> str:
        """`hmac-sha256:` and 16 hex digits."""
        return HMAC_PREFIX + digest(self.secret, _TAG_TEXT, "sha256").hex()[:16]

    def sign(self, payload: bytes) -> bytes:
        """Sign a Statement.

        Args:
            payload: the bytes of an in-toto Statement.

        Returns:
            One line of a signature file, without newline: a DSSE envelope that names the secret by its id.
        """
        tag = digest(self.secret, pae(PAYLOAD_TYPE, payload), "sha256")
        return render_signature(Envelope(payload, tag, keyid=self.key_id))

    def made(self, line: Line) -> bool:
        """Tell whether the line names this secret.

        Args:
            line: of a signature file.
        """
        return line.kind == "hmac" and line.hint == self.key_id

    def verify(self, line: Line) -> SignedBy:
        """Verify a line that names this secret.

        Args:
            line: of a signature file.

        Returns:
            The secret's id, as the signer.

        Raises:
            SignatureInvalid: the line does not name this secret, the tag is wrong, or the payload type is not that
                of a Statement.
        """
        envelope = line.envelope
        expected = digest(self.secret, pae(envelope.payload_type, envelope.payload), "sha256")
        if not compare_digest(expected, envelope.signature) or not self.made(line):
            raise SignatureInvalid(f"the signature by {self.key_id} is not valid: wrong secret or changed statement")
        if envelope.payload_type != PAYLOAD_TYPE:
            raise SignatureInvalid(f"the signature by {self.key_id} covers something that is not a statement")
        return SignedBy(key_id=self.key_id)

    check = verify
