"""Keys that never leave a device, an agent or a cloud: they sign there, and the line is that of any other key.

    pkcs11:id=%02;token=release?module-path=/usr/lib/softhsm/libsofthsm2.so   a token or HSM (RFC 7512), ECDSA P-256
    awskms:KEY   gcpkms:projects/…/cryptoKeyVersions/1   azurekms:VAULT/KEY   hashivault:KEY
    ssh-agent:   ssh-agent:SHA256:…   ssh-agent:id_ed25519.pub               an Ed25519 key that ssh-agent holds

Devices and clouds are reached through `securesystemslib` (extra `kms`). What a device signs is verified before it is
written, as every new signature is, so a device that signs something else is noticed.
"""

from __future__ import annotations

import contextlib
import os
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, unquote_to_bytes, urlencode

from wcp_attest.base.digest import sha256_hex
from wcp_attest.base.errors import ConfigError, SigningError
from wcp_attest.package.signature_file import PAYLOAD_TYPE, Envelope, pae, render_signature
from wcp_attest.signing.key import TrustedKey

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wcp_attest.package.signature_file import Line
    from wcp_attest.signing import SignedBy

MODULE_VARIABLE: Final = "PYKCS11LIB"
_ED25519_SPKI: Final = bytes.fromhex("302a300506032b6570032100")
_EXTRA: Final = "install it with `pip install 'wcp-attest[kms]'`"


@dataclass(frozen=True, slots=True)
class DeviceSigner:
    """A key somewhere else that signs.

    Attributes:
        trusted: its public half.
        signature: returns the raw signature over a message, in the form of the key's algorithm.
    """

    trusted: TrustedKey
    signature: Callable[[bytes], bytes] = field(repr=False)

    @classmethod
    def open(cls, uri: str, pin: Callable[[], bytes | None]) -> DeviceSigner:
        """Find a key.

        Args:
            uri: names the key, in one of the forms at the top of this module.
            pin: returns the PIN or passphrase, or None; called only where one is needed.

        Returns:
            A signer. The device is asked again for each signature.

        Raises:
            ConfigError: the URI is malformed, a library is missing, or there is no such key.
        """
        scheme, _, rest = uri.partition(":")
        if scheme == "ssh-agent":
            return cls(*_agent_key(rest))
        with _library(uri, ConfigError):
            from securesystemslib import signer as library

            if scheme == "pkcs11":
                found = _pkcs11(rest, pin)
            elif scheme == "azurekms":
                vault, _, key = rest.strip("/").partition("/")
                if not vault or not key:
                    raise ConfigError("azurekms: needs the vault and the key, azurekms:VAULT/KEY")
                found = library.AzureSigner.import_(vault, key)
            else:
                if not rest:
                    raise ConfigError(f"{scheme}: needs the name of the key behind it")
                services: dict[str, Any] = {"awskms": library.AWSSigner, "gcpkms": library.GCPSigner}
                found = services.get(scheme, library.VaultSigner).import_(rest)
            device_uri, public = found
            trusted = _trusted(public, uri)
            device = library.Signer.from_priv_key_uri(device_uri, public, lambda _: _text(pin(), uri))

        def sign(message: bytes) -> bytes:
            with _library(uri, SigningError):
                return bytes.fromhex(device.sign(message).signature)

        return cls(trusted, sign)

    def sign(self, payload: bytes) -> bytes:
        """Sign a Statement.

        Args:
            payload: the bytes of an in-toto Statement.

        Returns:
            One line of a signature file, without newline.

        Raises:
            SigningError: the device did not sign.
        """
        return render_signature(Envelope(payload, self.signature(pae(PAYLOAD_TYPE, payload))), self.trusted.key_id)

    def made(self, line: Line) -> bool:
        """Tell whether the line names this key.

        Args:
            line: of a signature file.
        """
        return line.kind == "key" and line.hint == self.trusted.key_id

    def check(self, line: Line) -> SignedBy:
        """Verify a line that this key made.

        Args:
            line: of a signature file.

        Returns:
            The key's id, as the signer.

        Raises:
            SignatureInvalid: its signature is not valid.
        """
        return self.trusted.verify(line)


def _pkcs11(rest: str, pin: Callable[[], bytes | None]) -> tuple[str, Any]:
    """Find a key on a token by its id (RFC 7512, section 2.3)."""
    from securesystemslib.signer import HSMSigner

    path, _, query = rest.partition("?")
    parts = [part.partition("=") for part in path.split(";") if part]
    fields = {name: value for name, _, value in parts}
    settings = parse_qs(query, keep_blank_values=True)
    if len(fields) < len(parts) or any(len(values) > 1 for values in settings.values()):
        raise ConfigError("pkcs11: a part of the URI stands in it twice; write each once (RFC 7512, section 2.3)")
    unknown = set(fields) - {"id", "token", "type"}
    if unknown:
        raise ConfigError(f"pkcs11: a key is named by `id` and `token`, not by `{min(unknown)}`")
    identifier = unquote_to_bytes(fields.get("id", ""))
    if not 0 < len(identifier) <= 8:
        raise ConfigError("pkcs11: needs the id of the key, such as pkcs11:id=%02;token=release")
    if set(settings) - {"module-path"}:
        raise ConfigError("pkcs11: only `module-path` may stand behind the `?`; give the PIN by --passphrase-file")
    if not os.environ.get(MODULE_VARIABLE):
        raise ConfigError(f"pkcs11: needs the token's library: ?module-path=FILE, or {MODULE_VARIABLE}")
    number, token = int.from_bytes(identifier, "big"), unquote(fields.get("token", "")) or None
    uri, public = HSMSigner.import_(number, token, lambda _: _text(pin(), "pkcs11"))
    label = f"?{urlencode({'label': token})}" if token else ""
    return (f"{HSMSigner.SCHEME}:{number}{label}" if token else uri), public


def _agent_key(wanted: str) -> tuple[TrustedKey, Callable[[bytes], bytes]]:
    """Find the Ed25519 key of an agent, by fingerprint or public key file, or the only one."""
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.net.ssh_agent import agent_keys, agent_signature
    from wcp_attest.signing.key import MAX_KEY_FILE_BYTES

    place = os.environ.get("SSH_AUTH_SOCK", "")
    if not place:
        raise ConfigError("ssh-agent: no agent is running here (SSH_AUTH_SOCK is not set)")
    spelled = b"\0\0\0\x0bssh-ed25519"
    keys = {
        TrustedKey(_ED25519_SPKI + blob[-32:]): blob
        for blob, _ in agent_keys(place)
        if blob.startswith(spelled) and len(blob) == len(spelled) + 4 + 32
    }
    if wanted.startswith("SHA256:"):
        prints = {b64encode(bytes.fromhex(sha256_hex(blob))).decode().rstrip("="): key for key, blob in keys.items()}
        found = prints.get(wanted.removeprefix("SHA256:").rstrip("="))
    elif wanted:
        data = read_bounded(wanted, limit=MAX_KEY_FILE_BYTES, what="the public key", follow=True)
        key = TrustedKey.from_file_bytes(data, what=wanted)
        found = key if key in keys else None
    elif len(keys) > 1:
        raise ConfigError(
            "ssh-agent: it holds several Ed25519 keys; name one, ssh-agent:SHA256:… or ssh-agent:FILE.pub"
        )
    else:
        found = next(iter(keys), None)
    if found is None:
        raise ConfigError(
            f"ssh-agent: it does not hold {f'the key {wanted}' if wanted else 'an Ed25519 key'}; see `ssh-add -L`"
        )
    blob = keys[found]

    def sign(message: bytes) -> bytes:
        algorithm, signature = agent_signature(place, blob, message)
        if algorithm != b"ssh-ed25519":
            raise SigningError("the ssh-agent signed with another algorithm than Ed25519")
        return signature

    return found, sign


def _trusted(public: Any, uri: str) -> TrustedKey:
    """Return a public key of the library as ours; only what our verifiers check is taken."""
    value = str(public.keyval.get("public", ""))
    if public.scheme == "ed25519":
        return TrustedKey(_ED25519_SPKI + bytes.fromhex(value))
    if public.scheme == "ecdsa-sha2-nistp256":
        return TrustedKey.from_file_bytes(value.encode(), what=uri)
    raise ConfigError(
        f"{uri} signs by {public.scheme}, which is not supported; use ECDSA P-256 with SHA-256 or Ed25519"
    )


def _text(pin: bytes | None, uri: str) -> str:
    if pin is None:
        raise ConfigError(f"{uri} asks for a PIN; give it by --passphrase-file or WCP_ATTEST_KEY_PASSPHRASE")
    return pin.decode("utf-8", "surrogateescape")


@contextlib.contextmanager
def _library(uri: str, error: type[ConfigError | SigningError]) -> Iterator[None]:
    """Call the library of a device or a cloud: name a token's own library for it, and say in one line what it raises.

    Args:
        uri: names the key; `?module-path=` is set in the environment, where `securesystemslib` looks for it, and taken
            back at the end.
        error: what an error of the library becomes.

    Raises:
        ConfigError: the library is not installed, or as `error`.
        SigningError: as `error`.
    """
    scheme = uri.partition(":")[0]
    named = parse_qs(uri.partition("?")[2]).get("module-path") if scheme == "pkcs11" else None
    before = os.environ.get(MODULE_VARIABLE)
    if named is not None:
        os.environ[MODULE_VARIABLE] = named[0]
    try:
        yield
    except (ConfigError, SigningError):
        raise
    except ImportError:
        raise ConfigError(f"{scheme}: its library is not installed; {_EXTRA}") from None
    except Exception as problem:  # noqa: BLE001  # the libraries of five makers raise what they like
        if type(problem).__name__ == "UnsupportedLibraryError":
            raise ConfigError(f"{scheme}: its library is not installed; {_EXTRA}") from None
        said = " ".join(str(problem).split())[:300]
        raise error(f"{scheme}: {type(problem).__name__}{f': {said}' if said else ''}") from None
    finally:
        if before is not None:
            os.environ[MODULE_VARIABLE] = before
        elif named is not None:
            del os.environ[MODULE_VARIABLE]
