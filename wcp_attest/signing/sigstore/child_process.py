"""The process that signs with Sigstore, apart from the one that waits for it.

    wcp_attest.signing.sigstore.keyless_signer  ──one JSON object on standard input──▶  this process
                                        ◀──JSON lines on the pipe, the last one the result──

A process of its own, because nothing less can be given up on: Fulcio and Rekor are called without a timeout, and the
browser flow leaves a thread behind that the interpreter waits for at exit. One that is killed leaves neither a thread
nor an open connection, and signs nothing afterwards.

The first line of each step names the service that is about to be asked, so that the waiting process can tell which one
did not answer. The identity token comes in on standard input and goes nowhere but to Fulcio.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from base64 import b64decode
from dataclasses import dataclass
from logging.handlers import BufferingHandler
from typing import TYPE_CHECKING, BinaryIO, TypedDict

from wcp_attest.signing.sigstore.trusted_root import in_words, root_of, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sigstore.models import Bundle, ClientTrustConfig, SigningConfig
    from sigstore.oidc import IdentityToken

MAX_WARNINGS = 1000  # of the library, kept until a signature is made

_NO_LOGIN = (
    "no identity token is at hand: this is no CI job that may ask for one, and there is no terminal to log in from; "
    "grant the job `id-token: write`, or give --identity-token"
)


class SigningRequest(TypedDict):
    """What is asked of this process.

    Attributes:
        payload: base64 of the Statement.
        config: a client trust config as JSON; None for a public instance.
        instance: which public instance, `production` or `staging`.
        token: an identity token; None to get one.
        browser: whether a person may be asked to log in.
        ambient: whether to look for a token of a CI system first.
    """

    payload: str
    config: str | None
    instance: str
    token: str | None
    browser: bool
    ambient: bool


class Failed(Exception):
    """A step failed. The text names the service and the reason."""


@dataclass(frozen=True, slots=True)
class Pipe:
    """The way back to the waiting process.

    Attributes:
        stream: binary, for writing.
    """

    stream: BinaryIO

    def send(self, **fields: str) -> None:
        """Send one line: a JSON object of these fields."""
        self.stream.write(json.dumps(fields).encode() + b"\n")
        self.stream.flush()

    @contextlib.contextmanager
    def step(self, service: str, *, or_else: str = "") -> Iterator[None]:
        """Name the service that is about to be asked, and give its failure that name.

        Args:
            service: what is asked.
            or_else: who else is asked in the same step, should no answer come.

        Raises:
            Failed: the library, or what lies under it, raised an error inside the context.
        """
        self.send(step=service + or_else)
        try:
            yield
        except _foreseen() as problem:
            raise Failed(f"{service} failed: {reason(problem)}") from problem


def main() -> int:
    """Serve one request.

    Returns:
        The exit status: 0 whenever the last line tells the result, or why there is none.
    """
    from sigstore.models import ClientTrustConfig

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the waiting process says that it was interrupted
    # Keep the pipe for ourselves: what is printed goes to standard error, and a browser we start inherits nothing.
    pipe = Pipe(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)
    request: SigningRequest = json.load(sys.stdin)
    with contextlib.suppress(OSError):  # a code that a person types comes from the terminal; the request used up stdin
        sys.stdin = open("/dev/tty", encoding="utf-8")  # noqa: SIM115  # stays open as long as the process
    instance = request["instance"]
    try:
        if request["config"] is not None:
            with pipe.step("reading the trust config"):
                config = ClientTrustConfig.from_json(request["config"])
        else:
            with pipe.step(f"the update repository of Sigstore's {instance} instance"):
                config = ClientTrustConfig.staging() if instance == "staging" else ClientTrustConfig.production()
        token = _token(pipe, request, config)
        bundle = _sign(pipe, b64decode(request["payload"]), config, token)
    except Failed as failure:
        pipe.send(error=str(failure))
        return 0
    pipe.send(bundle=bundle.to_json(), trusted_root=root_of(config).decode())
    return 0


def _token(pipe: Pipe, request: SigningRequest, config: ClientTrustConfig) -> IdentityToken:
    from sigstore.oidc import IdentityToken, Issuer, detect_credential

    raw = request["token"]
    if raw is None and request["ambient"]:
        with pipe.step("the CI system's identity provider"):
            raw = detect_credential()
    if raw is not None:
        with pipe.step("reading the identity token"):
            return IdentityToken(raw.strip())
    if not request["browser"]:
        raise Failed(_NO_LOGIN)
    with pipe.step("choosing the identity provider"):
        url = config.signing_config.get_oidc_url()
    with pipe.step(f"the identity provider {url}"):
        return Issuer(url).identity_token()


def _sign(pipe: Pipe, payload: bytes, config: ClientTrustConfig, token: IdentityToken) -> Bundle:
    from sigstore.dsse import Statement
    from sigstore.sign import SigningContext

    with pipe.step("choosing the services to sign with"):
        services = config.signing_config
        statement = Statement(payload)
        context = SigningContext.from_trust_config(config)
        stamping = "".join(f" or the timestamp authority {stamper.url}" for stamper in services.get_tsas())
        authority, log = services.get_fulcio().url, getattr(services.get_tlogs()[0], "url", "")
    with contextlib.ExitStack() as stack:
        with pipe.step(f"the certificate authority {authority}"):
            signer = stack.enter_context(context.signer(token))
        warnings = BufferingHandler(MAX_WARNINGS)
        warnings.setLevel(logging.WARNING)
        logger = logging.getLogger("sigstore")
        logger.addHandler(warnings)
        stack.callback(logger.removeHandler, warnings)
        with pipe.step(f"the transparency log {log}", or_else=stamping):
            return _timestamped(services, warnings.buffer, lambda: signer.sign_dsse(statement))


def _timestamped(services: SigningConfig, warnings: list[logging.LogRecord], sign: Callable[[], Bundle]) -> Bundle:
    """Sign, and insist on every timestamp that is configured: the library only warns of one that it cannot get.

    Raises:
        Failed: a timestamp authority failed, or the certificate had expired when it came.
    """
    from sigstore._internal.fulcio.client import ExpiredCertificate
    from sigstore.models import InvalidBundle

    try:
        bundle = sign()
    except ExpiredCertificate:
        authority = services.get_fulcio().url
        raise Failed(
            f"the certificate authority {authority} failed: its certificate has expired; compare the clocks"
        ) from None
    except InvalidBundle:
        if not warnings:
            raise
        bundle = None
    data = None if bundle is None else bundle.verification_material.timestamp_verification_data
    if bundle is None or len(data.rfc3161_timestamps if data else ()) < len(services.get_tsas()):
        authorities = ", ".join(authority.url for authority in services.get_tsas())
        said = "; ".join(record.getMessage().rpartition("Failed with ")[2] for record in warnings)
        raise Failed(f"the timestamp authority {authorities} failed: {shortened(said) or 'no timestamp came of it'}")
    return bundle


def _foreseen() -> tuple[type[Exception], ...]:
    """Everything that signing is known to raise; the library has no base class for it."""
    from sigstore._internal.fulcio.client import ExpiredCertificate, FulcioClientError
    from sigstore._internal.rekor import RekorClientError
    from sigstore.errors import Error
    from sigstore.oidc import ExpiredIdentity, IssuerError
    from urllib3.exceptions import HTTPError

    return (
        Error,
        ExpiredCertificate,
        ExpiredIdentity,
        FulcioClientError,
        HTTPError,
        IssuerError,
        RekorClientError,
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        OSError,  # the base of every error of requests
        RuntimeError,
        TypeError,
        ValueError,  # pydantic's ValidationError is one
    )


def reason(problem: BaseException) -> str:
    """Return why a service failed: what it answered, or else the innermost cause.

    The library raises some errors without any text, and others with the text of three layers of clients.

    Args:
        problem: what a library raised.
    """
    import requests

    # 1  What a server answered: the message in the shape of a gRPC gateway, else the text.
    chain = _chain(problem)
    for error in chain:
        response = getattr(error, "response", None)
        if isinstance(response, requests.Response):
            text = response.text or response.reason
            with contextlib.suppress(ValueError, AttributeError):
                text = str(json.loads(text).get("message") or text)
            return f"HTTP status {response.status_code}: {shortened(text)}"
    # 2  No server answered: the first and the last text of the chain.
    if isinstance(problem, requests.JSONDecodeError):
        return "its answer is not JSON"
    if isinstance(problem, EOFError):
        return "no browser could be opened, and there is no terminal to type a code on"
    said = [in_words(error) for error in chain if str(error).strip()]
    if isinstance(problem, OSError):
        return said[-1] if said else type(problem).__name__
    if isinstance(problem, AttributeError | LookupError | TypeError):
        return f"its answer is malformed ({type(problem).__name__}: {problem})"
    first, last = (said[0], said[-1]) if said else (type(problem).__name__, "")
    return first if last in first else f"{first}: {last}"


def _chain(problem: BaseException) -> list[BaseException]:
    """Return an exception and those that led to it, as causes, contexts or arguments; the innermost last."""
    chain: list[BaseException] = []
    following: BaseException | None = problem
    while following is not None and following not in chain:
        chain.append(following)
        inner = next((argument for argument in following.args if isinstance(argument, BaseException)), None)
        following = following.__cause__ or following.__context__ or inner
    return chain


if __name__ == "__main__":
    raise SystemExit(main())
