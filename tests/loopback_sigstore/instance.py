"""The instance as a whole: its services, how to reach them, and what a client must trust."""

from __future__ import annotations

import json
import os
import shlex
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self
from urllib.parse import urlencode

from tests.loopback_sigstore import browser
from tests.loopback_sigstore.fulcio import CertificateAuthority
from tests.loopback_sigstore.keys import key_id, spki
from tests.loopback_sigstore.oidc import IdentityProvider
from tests.loopback_sigstore.rekor1 import RekorV1
from tests.loopback_sigstore.rekor2 import RekorV2
from tests.loopback_sigstore.server import LoopbackServer
from tests.loopback_sigstore.trust import (
    ED25519,
    Chain,
    Json,
    Log,
    Pinned,
    Window,
    client_trust_config,
    signing_config,
    trusted_root,
)
from tests.loopback_sigstore.tsa import PATH as TSA_PATH
from tests.loopback_sigstore.tsa import TimestampAuthority
from tests.loopback_sigstore.tuf_repository import PATH as TUF_PATH
from tests.loopback_sigstore.tuf_repository import TufRepository

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.loopback_sigstore.faults import Fault

DIRECT: Mapping[str, str] = {"NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}


class LoopbackSigstore:
    """A Sigstore instance on one port of 127.0.0.1, up while the context is open.

    Attributes:
        faults: how it misbehaves at present; see `failing`.
        base: its URL.
        provider: the identity provider, which mints tokens.
        authority: the certificate authority.
        timestamps: the timestamp authority.
    """

    def __init__(self, certificate: str | None = None) -> None:
        self.faults: set[Fault] = set()
        self._open = ExitStack()
        self._server = LoopbackServer(self.faults, certificate)
        self.base = self._server.base
        host = self.base.removeprefix("http://")
        self.provider = IdentityProvider(f"{self.base}/oidc")
        self.authority = CertificateAuthority(self.provider, self.faults)
        self._rekor1 = RekorV1(host, self.faults)
        self._rekor2 = RekorV2(f"{host}/v2", self.faults)
        self.timestamps = TimestampAuthority(self.faults)
        for service in (self.provider, self.authority, self._rekor1, self._rekor2, self.timestamps):
            self._server.add(service.routes())

    def __enter__(self) -> Self:
        self._open.enter_context(self._server)
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @property
    def issuer(self) -> str:
        """The URL that tokens and certificates name as the issuer."""
        return self.provider.issuer

    @property
    def requests(self) -> list[str]:
        """Every request seen so far, as `METHOD /path`."""
        return self._server.requests

    @contextmanager
    def failing(self, *faults: Fault) -> Iterator[None]:
        """Misbehave inside the context."""
        self.faults.update(faults)
        try:
            yield
        finally:
            self.faults.difference_update(faults)

    def token(self, **claims: object) -> str:
        """Mint an identity token; claims given replace the usual ones."""
        return self.provider.token(**claims)

    def trusted_root(
        self, windows: Mapping[Pinned, Window] | None = None, without: frozenset[Pinned] = frozenset()
    ) -> Json:
        """Return the trusted root, with other windows or with members left out where asked."""
        authority, timestamps = self.authority, self.timestamps
        members: list[Log | Chain] = [
            Log(Pinned.REKOR_V1, self.base, key_id(self._rekor1.key), spki(self._rekor1.key)),
            Log(Pinned.REKOR_V2, f"{self.base}/v2", self._rekor2.log_id, spki(self._rekor2.key), ED25519),
            Log(Pinned.CT, f"{self.base}/ct", key_id(authority.log.key), spki(authority.log.key)),
            Chain(Pinned.CA, self.base, (authority.intermediate.certificate, authority.root.certificate)),
            Chain(Pinned.TSA, f"{self.base}{TSA_PATH}", (timestamps.signer.certificate, timestamps.root.certificate)),
        ]
        return trusted_root(members, windows, without)

    def client_trust_config(self, *, rekor: int = 1, timestamps: bool = True, root: Json | None = None) -> Json:
        """Return a client's configuration.

        Args:
            rekor: the version of the log to sign with, 1 or 2.
            timestamps: whether to ask for timestamps.
            root: another trusted root than the usual one.
        """
        signing = signing_config(self.base, rekor=rekor, timestamps=timestamps)
        return client_trust_config(self.trusted_root() if root is None else root, signing)

    def tuf_repository(self, *, rekor: int = 1) -> tuple[str, bytes]:
        """Begin to distribute the trust by TUF; return the repository's URL and the root role to start from."""
        targets = {
            "trusted_root.json": json.dumps(self.trusted_root()).encode(),
            "signing_config.v0.2.json": json.dumps(signing_config(self.base, rekor=rekor, timestamps=True)).encode(),
        }
        repository = TufRepository(targets)
        self._server.add(repository.routes())
        return f"{self.base}{TUF_PATH}", repository.root

    def ambient_environment(self, **claims: str) -> dict[str, str]:
        """Return what GitHub Actions sets for a job that may ask for tokens; the claims are those of its tokens."""
        return {
            **DIRECT,
            "GITHUB_ACTIONS": "true",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "run-token",
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.issuer}/ambient?{urlencode(claims)}",
        }

    def browser_environment(self) -> dict[str, str]:
        """Return what makes Python's `webbrowser` start one that logs in without a person."""
        command = shlex.join([sys.executable, os.path.abspath(browser.__file__)])
        return {**DIRECT, "BROWSER": f"{command} %s"}
