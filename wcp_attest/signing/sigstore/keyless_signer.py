"""Sign with Sigstore: no key to keep, an identity token instead, and a deadline for all of it.

A process of its own does the work (`child_process`) and is killed when the time is up; the reason stands there. What
comes back is one Sigstore bundle v0.3 over the Statement's exact bytes, and the trusted root that goes with it. The
bundle is verified by that root before it is written anywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64encode
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from wcp_attest.base import strictjson
from wcp_attest.base.child_environment import signing_environment
from wcp_attest.base.errors import ConfigError, SignatureInvalid, SigningError, TrustUnusable
from wcp_attest.net.authorities import check_authorities, own_authorities
from wcp_attest.package.signature_file import MAX_LINE_BYTES
from wcp_attest.signing import SignedBy, SigstoreTrust

if TYPE_CHECKING:
    from wcp_attest.package.signature_file import Line
    from wcp_attest.signing.sigstore.child_process import SigningRequest
    from wcp_attest.signing.sigstore.trusted_root import Instance

MAX_DEADLINE = 86_400.0  # seconds; longer is a mistake, and systems cannot wait for some larger numbers
DEADLINE = 60.0  # seconds; a signature takes one or two, a person at a browser longer
MAX_CONFIG_BYTES = 4 * 1024 * 1024  # the public one is 9 kB
MAX_TOKEN_BYTES = 64 * 1024  # tokens of CI systems are 2 kB

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class SigstoreSigner:
    """Signs as the person or CI job that an identity token names.

    Args:
        config: a client trust config (JSON) of a private instance; None for a public one.
        instance: which public instance.
        token: an identity token; None to ask the CI system, or a person.
        ambient: whether to ask the CI system that this runs in.
        browser: whether a person may be asked to log in with a browser.
        deadline: for everything together, in seconds.

    Raises:
        ConfigError: the config is malformed or would send the token over a plain connection, the token is empty or too
            large, or the deadline is not positive.
    """

    def __init__(
        self,
        *,
        config: bytes | None = None,
        instance: Instance = "production",
        token: bytes | None = None,
        ambient: bool = True,
        browser: bool = False,
        deadline: float = DEADLINE,
    ) -> None:
        if not 0 < deadline <= MAX_DEADLINE:  # also refuses nan
            raise ConfigError(f"signing may take more than 0 and at most {MAX_DEADLINE:g} seconds, not {deadline:g}")
        if config is not None:
            config = _check_config(config)
        text = None if token is None else token.decode("ascii", errors="replace").strip()
        if text is not None and (
            not text or len(text) > MAX_TOKEN_BYTES or not (text.isascii() and text.isprintable())
        ):
            raise ConfigError(
                "the identity token is empty, too large, or not a token (three base64url parts, with dots)"
            )
        self._request: SigningRequest = {
            "payload": "",
            "config": None if config is None else config.decode(),
            "instance": instance,
            "token": text,
            "ambient": ambient,
            "browser": browser,
        }
        self._deadline = deadline
        self._root = b""
        self._by: SignedBy | None = None

    def sign(self, payload: bytes) -> bytes:
        """Sign a Statement.

        Args:
            payload: the bytes of an in-toto Statement.

        Returns:
            One line of a signature file, without newline: a Sigstore bundle v0.3.

        Raises:
            ConfigError: the certificates that the environment names cannot be read.
            SigningError: a service failed or did not answer in time; the message names it.
        """
        check_authorities()
        last = self._run({**self._request, "payload": b64encode(payload).decode()})
        bundle, root = last.get("bundle"), last.get("trusted_root")
        if not isinstance(bundle, str) or not isinstance(root, str):
            raise SigningError(str(last.get("error") or "the process that signs ended without an answer"))
        self._root = root.encode()
        fields = strictjson.loads_object(
            bundle.encode(), what="the new Sigstore bundle", max_bytes=MAX_LINE_BYTES, error=SigningError
        )
        return strictjson.dumps(fields)

    def check(self, line: Line) -> SignedBy:
        """Verify a line that this signer just made, by the trusted root of the instance that signed.

        Args:
            line: of a signature file.

        Returns:
            Who signed, as the certificate says.

        Raises:
            SignatureInvalid: its signature is not valid.
            TrustUnusable: the instance's trusted root cannot be used.
        """
        from wcp_attest.signing.sigstore.bundle import verify_bundle

        self._by = verify_bundle(line, SigstoreTrust(trusted_root=self._root)).by
        return self._by

    def made(self, line: Line) -> bool:
        """Tell whether a line names the signer of the last signature made here. The line is not verified.

        Args:
            line: of a signature file.
        """
        from wcp_attest.signing.sigstore.bundle_summary import claims_in

        if line.kind != "sigstore" or self._by is None:
            return False
        try:
            claims = claims_in(line)
        except SignatureInvalid:
            return False
        return (claims.san, claims.issuer) == (self._by.identity, self._by.issuer)

    def _run(self, request: SigningRequest) -> dict[str, object]:
        """Let the other process sign; return the last line it sent."""
        command = [sys.executable or "python3", "-P", "-m", "wcp_attest.signing.sigstore.child_process"]
        # `-P` and this path: the child imports what this process imports, and nothing from the current directory,
        # which may be the tree that is signed.
        path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
        kept = signing_environment(os.environ, ask_for_token=request["ambient"] and request["token"] is None)
        try:
            ran = subprocess.run(
                command,
                input=json.dumps(request).encode(),
                stdout=subprocess.PIPE,
                timeout=self._deadline,
                env={**kept, **own_authorities(os.environ), "PYTHONPATH": path},
                check=False,
            )
        except subprocess.TimeoutExpired as problem:
            service = _lines(problem.stdout).get("step") or "the process that signs"
            raise SigningError(
                f"{service} did not answer within {self._deadline:g} s; nothing was written. Try again, or give it "
                "longer with --timeout"
            ) from None
        except OSError as problem:
            raise SigningError(f"the process that signs cannot be started: {problem.strerror or problem}") from None
        return _lines(ran.stdout)


def _lines(output: bytes | None) -> dict[str, object]:
    """Return the last whole line of what the other process sent."""
    whole = (output or b"").rpartition(b"\n")[0]
    return cast("dict[str, object]", json.loads(whole.rpartition(b"\n")[2])) if whole else {}


def _check_config(data: bytes) -> bytes:
    """Return what of a config can be used; refuse one that would send the identity token in the clear."""
    from sigstore_models.trustroot.v1 import ClientTrustConfig

    from wcp_attest.signing.sigstore.trusted_root import in_words, usable_config

    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigError(f"the trust config is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        data = usable_config(data)
        config = ClientTrustConfig.from_json(data).signing_config
    except TrustUnusable as problem:
        raise ConfigError(str(problem)) from None
    except ValueError as problem:
        raise ConfigError(f"the trust config cannot be used: {in_words(problem)}") from None
    for service in (*config.ca_urls, *config.oidc_urls, *config.rekor_tlog_urls, *config.tsa_urls):
        try:
            parts = urlsplit(service.url)
            allowed = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
        except ValueError:
            allowed = False
        if not allowed or not parts.hostname:
            raise ConfigError(
                f"the trust config names {service.url!r}; only https is used, or http on this very machine"
            )
    return data
