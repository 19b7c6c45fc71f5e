"""How the instance can be made to misbehave, one member a fault."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final


class Service(Enum):
    """A service of the instance, as far as a request can tell."""

    OIDC = auto()
    FULCIO = auto()
    REKOR = auto()
    TSA = auto()
    TUF = auto()


class Fault(Enum):
    """A misbehaviour; the value says it in words."""

    NO_SCT = "a certificate without a signed certificate timestamp"
    BAD_SCT = "a certificate timestamp by a key outside the trusted root"
    OLD_CERTIFICATE = "a certificate that expired a day before the signature"
    ROGUE_CA = "a certificate by an authority outside the trusted root"
    BAD_PROMISE = "an inclusion promise by another key (Rekor v1)"
    BAD_PROOF = "an inclusion proof with one bit of its root hash flipped"
    BAD_CHECKPOINT = "a checkpoint by another key"
    BAD_BODY = "a log entry for other content"
    BAD_TIMESTAMP = "a timestamp over other bytes"
    OIDC_500 = "the identity provider fails"
    OIDC_HANGS = "the identity provider never answers"
    FULCIO_500 = "the certificate authority fails"
    FULCIO_HTML = "a proxy answers in place of the certificate authority"
    FULCIO_GARBAGE = "the certificate authority answers with success and no JSON"
    FULCIO_HANGS = "the certificate authority never answers"
    FULCIO_CLOSES = "the certificate authority closes the connection without an answer"
    REKOR_409 = "the log has the entry already"
    REKOR_500 = "the log fails"
    REKOR_GARBAGE = "the log answers with success and no log entry"
    REKOR_HANGS = "the log never answers"
    REKOR_CLOSES = "the log closes the connection without an answer"
    TSA_500 = "the timestamp authority fails"
    TSA_GARBAGE = "the timestamp authority answers with success and no timestamp"
    TSA_HANGS = "the timestamp authority never answers"
    TUF_500 = "the update repository fails"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service sends in place of the truth.

    Attributes:
        service: which one.
        status: the HTTP status; 0 closes the connection without an answer, `None` holds it open without one until
            the instance is stopped.
        body: the text sent with the status.
        content_type: of the body.
    """

    service: Service
    status: int | None
    body: str = '{"code": 13, "message": "out of order"}'
    content_type: str = "application/json"


ANSWERS: Final[dict[Fault, Answer]] = {
    Fault.OIDC_500: Answer(Service.OIDC, 500),
    Fault.OIDC_HANGS: Answer(Service.OIDC, None),
    Fault.FULCIO_500: Answer(Service.FULCIO, 500),
    Fault.FULCIO_HTML: Answer(Service.FULCIO, 502, "<html>proxy</html>", "text/html"),
    Fault.FULCIO_GARBAGE: Answer(Service.FULCIO, 201, "<html>welcome</html>", "text/html"),
    Fault.FULCIO_HANGS: Answer(Service.FULCIO, None),
    Fault.FULCIO_CLOSES: Answer(Service.FULCIO, 0),
    Fault.REKOR_409: Answer(Service.REKOR, 409, '{"code": 6, "message": "an equivalent entry already exists"}'),
    Fault.REKOR_500: Answer(Service.REKOR, 500),
    Fault.REKOR_GARBAGE: Answer(Service.REKOR, 201, '{"weather": "fine"}'),
    Fault.REKOR_HANGS: Answer(Service.REKOR, None),
    Fault.REKOR_CLOSES: Answer(Service.REKOR, 0),
    Fault.TSA_500: Answer(Service.TSA, 500),
    Fault.TSA_GARBAGE: Answer(Service.TSA, 201, "noon", "text/plain"),
    Fault.TSA_HANGS: Answer(Service.TSA, None),
    Fault.TUF_500: Answer(Service.TUF, 500),
}
