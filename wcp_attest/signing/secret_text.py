"""A secret in a file or in a variable is the first line of it, for every reader.

`openssl -pass file:` and `gpg --passphrase-file` read it so. One function serves passphrases and shared secrets, from
files, variables and inputs of the Action, so that the same bytes mean the same secret everywhere.
"""

from __future__ import annotations

from wcp_attest.base.errors import ConfigError

UTF8_MARK = b"\xef\xbb\xbf"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_TEXT = bytes({9, 10, 11, 12, 13, *range(32, 127), *range(128, 256)})


def secret_line(data: bytes, what: str) -> bytes:
    """Return the first line of a secret's file or variable.

    A UTF-8 byte order mark before it and one line break (LF or CRLF) after it do not belong to the secret. Blanks do.

    Args:
        data: all bytes of the file or variable.
        what: what it is, for messages.

    Raises:
        ConfigError: the text is in UTF-16, or binary data would be cut at a byte that happens to be a line break.
    """
    if data.startswith(UTF16_MARKS) and b"\0" in data:
        raise ConfigError(f"{what} is in UTF-16; save it as UTF-8 without a byte order mark")
    line, _, rest = data.removeprefix(UTF8_MARK).partition(b"\n")
    if rest.translate(None, _TEXT):
        raise ConfigError(f"{what} is binary data with a line break in it; write it as hex, on one line")
    return line.removesuffix(b"\r")
