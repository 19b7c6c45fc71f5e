"""The identity provider: OpenID Connect discovery, the browser flow with PKCE, and an ambient endpoint as CI has it."""

from __future__ import annotations

import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

import jwt

from tests.loopback_sigstore.faults import Service
from tests.loopback_sigstore.keys import P256Key, new_p256, sha256
from tests.loopback_sigstore.server import Refusal, Request, Response, Route, json_response

if TYPE_CHECKING:
    from collections.abc import Mapping

SUBJECT = "https://ci.test/acme/worker"
AUDIENCE = "sigstore"
LIFETIME = 600
KEY_NAME = "key-1"


@dataclass(slots=True)
class IdentityProvider:
    """Issues tokens to anyone who asks; the browser flow approves at once.

    Attributes:
        issuer: the URL that tokens name.
        login: the claims of the person at the browser.
    """

    issuer: str
    login: dict[str, str] = field(default_factory=lambda: {"sub": "42", "email": "release@acme.test"})
    _key: P256Key = field(default_factory=new_p256)
    _pending: dict[str, tuple[str, str]] = field(default_factory=dict)

    def token(self, **claims: object) -> str:
        """Sign a token; claims given replace the usual ones."""
        now = int(time.time())
        usual = {"iss": self.issuer, "aud": AUDIENCE, "sub": SUBJECT, "iat": now, "exp": now + LIFETIME}
        return jwt.encode({**usual, **claims}, self._key, algorithm="ES256", headers={"kid": KEY_NAME})

    def claims_of(self, token: str) -> Mapping[str, object]:
        """Check a token as Fulcio does and return its claims.

        Raises:
            Refusal: the signature, the issuer, the audience or the time does not hold.
        """
        try:
            claims: dict[str, object] = jwt.decode(
                token,
                self._key.public_key(),
                ["ES256"],
                audience=AUDIENCE,
                issuer=self.issuer,
                options={"require": ["exp", "iat", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise Refusal(401, f"there was an error processing the identity token: {error}") from error
        return claims

    def routes(self) -> list[Route]:
        """Return what the provider serves below its issuer URL."""
        return [
            Route(Service.OIDC, "GET", "/oidc/.well-known/openid-configuration", self._discovery),
            Route(Service.OIDC, "GET", "/oidc/keys", self._keys),
            Route(Service.OIDC, "GET", "/oidc/auth", self._authorize),
            Route(Service.OIDC, "POST", "/oidc/token", self._exchange),
            Route(Service.OIDC, "GET", "/oidc/ambient", self._ambient),
        ]

    def _discovery(self, _: Request) -> Response:
        return json_response(
            {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/keys",
                "authorization_endpoint": f"{self.issuer}/auth",
                "token_endpoint": f"{self.issuer}/token",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
            }
        )

    def _keys(self, _: Request) -> Response:
        key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        return json_response({"keys": [{**key, "kid": KEY_NAME, "alg": "ES256", "use": "sig"}]})

    def _authorize(self, request: Request) -> Response:
        """Redirect back with a code at once: the "browser" is any client that follows redirects (RFC 6749, 4.1)."""
        query = request.query
        if query["response_type"] != "code" or query["code_challenge_method"] != "S256":
            raise Refusal(400, "only the authorization code flow with PKCE is served")
        code = secrets.token_urlsafe(16)
        self._pending[code] = (query["client_id"], query["code_challenge"])
        back = f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state']})}"
        return Response(302, b"", "text/plain", {"location": back})

    def _exchange(self, request: Request) -> Response:
        """Exchange a code, once, for a token (RFC 7636 section 4.6)."""
        form = dict(parse_qsl(request.body.decode()))
        client, challenge = self._pending.pop(form.get("code", ""), ("", ""))
        digest = sha256(form.get("code_verifier", "").encode())
        if not challenge or challenge != base64.urlsafe_b64encode(digest).rstrip(b"=").decode():
            return json_response({"error": "invalid_grant"}, 400)
        token = self.token(aud=client, **self.login)
        return json_response({"access_token": token, "id_token": token, "token_type": "Bearer"})

    def _ambient(self, request: Request) -> Response:
        """Answer as the token endpoint of GitHub Actions does; the claims of the run stand in the query."""
        if request.headers.get("authorization", "").lower() != "bearer run-token":
            raise Refusal(401, "the run's own token is missing")
        query = dict(request.query)
        return json_response({"value": self.token(aud=query.pop("audience", AUDIENCE), **query)})
