"""What can go wrong between here and a server: it is down, it is busy, or its answer cannot be used."""

from __future__ import annotations

from wcp_attest.base.errors import Error


class RegistryError(Error):
    """Base of every failure to get an answer from a registry."""


class RegistryUnreachable(RegistryError):
    """No complete answer came: no connection, a timeout, a cut-off body, a server error. Asking later may help."""


class RegistryRateLimitError(RegistryUnreachable):
    """The registry answered 429.

    Attributes:
        retryable: always True; the earlier SDKs' clients have it.
        retry_after: seconds the server asks to wait, None when it does not say.
    """

    retryable = True

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RegistryAnswerError(RegistryError):
    """An answer came and cannot be used: refused, redirected elsewhere, of the wrong type, too large, malformed.

    Attributes:
        status: the HTTP status of a refusal, None for other reasons.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RegistryIncompleteError(RegistryAnswerError):
    """A list came in part, and the registry offers no way to the rest."""
