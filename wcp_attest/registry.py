"""The client of a worker registry: what it knows of a worker, its ban list, and reports to it.

    client = RegistryClient("https://registry.example")
    client.verify("org.acme.summarizer").status        # active, revoked, banned or unknown

Everything is keyed by *worker* id. An answer that cannot be had is an error, never "unknown" or "not banned".
"""

from __future__ import annotations

from wcp_attest.net.https_errors import (
    RegistryAnswerError,
    RegistryError,
    RegistryIncompleteError,
    RegistryRateLimitError,
    RegistryUnreachable,
)
from wcp_attest.trust.registry.answers import AttestationResponse, BanEntry, Health, Submission, VerifyResponse
from wcp_attest.trust.registry.client import DEFAULT_URL, URL_VARIABLE, Credentials, RegistryClient

__all__ = [
    "DEFAULT_URL",
    "URL_VARIABLE",
    "AttestationResponse",
    "BanEntry",
    "Credentials",
    "Health",
    "RegistryAnswerError",
    "RegistryClient",
    "RegistryError",
    "RegistryIncompleteError",
    "RegistryRateLimitError",
    "RegistryUnreachable",
    "Submission",
    "VerifyResponse",
]
