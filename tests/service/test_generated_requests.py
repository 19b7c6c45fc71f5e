"""Requests generated from the OpenAPI document, right and wrong ones, against a running service: never a 5xx."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.drawn import examples
from tests.service.world import World
from wcp_route.service.openapi import document
from wcp_route.service.settings import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator

load_all_checks()
SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS: dict[str, Any] = {
    found.ok().label: found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)
}
VARIED = [label for label, operation in OPERATIONS.items() if "{" in label or operation.body]
EXAMPLES = examples(25)  # of each operation and each kind; the same ones each time


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service of its own: the requests withdraw, quarantine and report whatever they name."""
    everything = {"name": "root", "sha256": [sha256(b"root").hexdigest()], "roles": [*ROLES], "level": "gatekeeper"}
    made = World(tmp_path_factory.mktemp("busy"), token=[{**everything, "namespaces": ["org.acme"]}])
    yield made
    made.close()


def test_every_operation_is_in_the_document() -> None:
    assert len(OPERATIONS) > 25


@pytest.mark.parametrize("label", OPERATIONS)
@pytest.mark.filterwarnings("ignore")
def test_requests_of_the_described_form_are_answered_without_a_server_error(busy: World, label: str) -> None:
    send(busy, label, GenerationMode.POSITIVE)


@pytest.mark.parametrize("label", VARIED)
@pytest.mark.filterwarnings("ignore")
def test_requests_of_another_form_are_answered_without_a_server_error(busy: World, label: str) -> None:
    send(busy, label, GenerationMode.NEGATIVE)


def send(busy: World, label: str, mode: GenerationMode) -> None:
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def one(case: Any) -> None:
        answer = case.call(base_url=busy.base, headers={"authorization": "Bearer root"}, timeout=30)
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        assert "Traceback" not in answer.text
        case.validate_response(
            answer, checks=(status_code_conformance, content_type_conformance, response_schema_conformance)
        )

    one()
