"""The signer a policy expects against what a certificate says: exact, complete, and with a message one can act on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcp_attest.base.errors import ConfigError, SignerUntrusted
from wcp_attest.signing.sigstore.signer_identity import (
    MAX_FIELD,
    CertificateClaims,
    SigstoreIdentity,
    issuer_of,
)
from wcp_attest.trust.policy import Namespace

ISSUER = "https://token.actions.githubusercontent.com"
RELEASE = "https://github.com/acme/worker/.github/workflows/release.yml"
CLAIMS = CertificateClaims(
    issuer=ISSUER,
    san=f"{RELEASE}@refs/tags/v1",
    build_signer_uri=f"{RELEASE}@refs/tags/v1",
    build_config_uri=f"{RELEASE}@refs/tags/v1",
    source_repository_uri="https://github.com/acme/worker",
    source_repository_ref="refs/tags/v1",
)
WORKFLOW = SigstoreIdentity(
    issuer=ISSUER, repository="acme/worker", workflow=".github/workflows/release.yml", ref="refs/tags/*"
)


def refused(expected: SigstoreIdentity, claims: CertificateClaims) -> str:
    with pytest.raises(SignerUntrusted) as caught:
        expected.matches(claims)
    return str(caught.value)


@pytest.mark.parametrize(
    "expected",
    [
        SigstoreIdentity(issuer=ISSUER, identity=CLAIMS.san),
        SigstoreIdentity(issuer=ISSUER, repository="acme/worker"),
        SigstoreIdentity(issuer=ISSUER, repository="https://github.com/acme/worker"),
        SigstoreIdentity(issuer=ISSUER, repository="Acme/Worker"),
        SigstoreIdentity(issuer=ISSUER, repository="ACME/worker.git", workflow=".github/workflows/release.yml"),
        SigstoreIdentity(issuer=ISSUER, repository="https://GitHub.com:443/Acme/Worker.git"),
        SigstoreIdentity(issuer=ISSUER, repository="acme/worker", workflow="Acme/Worker/.github/workflows/release.yml"),
        SigstoreIdentity(issuer=ISSUER, repository="acme/worker", ref="refs/tags/v1"),
        SigstoreIdentity(issuer=ISSUER, repository="acme/worker", ref="refs/tags/v1*"),
        SigstoreIdentity(issuer=ISSUER, repository="acme/worker", workflow="acme/worker/.github/workflows/release.yml"),
        WORKFLOW,
    ],
    ids=lambda expected: expected.label,
)
def test_the_expected_signer_matches(expected: SigstoreIdentity) -> None:
    expected.matches(CLAIMS)


@pytest.mark.parametrize(
    ("field", "found", "word"),
    [
        ("issuer", ISSUER + "/", "issuer"),
        ("issuer", ISSUER.upper(), "issuer"),
        ("issuer", "", "issuer"),
        ("source_repository_uri", "https://github.com/acme/worker-evil", "repository"),
        ("source_repository_uri", "https://github.com:8443/acme/worker", "repository"),
        ("source_repository_uri", "http://github.com/acme/worker", "repository"),
        ("source_repository_uri", "https://acme@github.com/acme/worker", "repository"),
        ("source_repository_uri", "https://github.com.evil.test/acme/worker", "repository"),
        ("source_repository_uri", None, "repository"),
        ("build_config_uri", f"{RELEASE}.evil.yml@refs/tags/v1", "workflow"),
        ("build_config_uri", f"{RELEASE}@evil.yml@refs/tags/v1", "workflow"),
        ("build_config_uri", "https://github.com/acme/worker/.github/workflows/test.yml@refs/tags/v1", "workflow"),
        ("build_config_uri", None, "workflow"),
        (
            "build_signer_uri",
            "https://github.com/evil/x/.github/workflows/release.yml@refs/tags/v1",
            "signing workflow",
        ),
        ("build_signer_uri", None, "signing workflow"),
        ("source_repository_ref", "refs/heads/refs/tags/v1", "ref"),
        ("source_repository_ref", "refs/tags", "ref"),
        ("source_repository_ref", None, "ref"),
    ],
)
def test_one_differing_claim_is_enough_and_is_named(field: str, found: str | None, word: str) -> None:
    message = refused(WORKFLOW, replace(CLAIMS, **{field: found}))  # type: ignore[arg-type]
    assert f"{word}: expected `" in message
    shown = "nothing in the certificate" if found is None else f"`{found.removesuffix('@refs/tags/v1')}`"
    assert f"found {shown}" in message


def test_every_difference_is_named_at_once() -> None:
    message = refused(WORKFLOW, CertificateClaims(issuer="https://other.test", san="x@y.test"))
    for word in ("issuer: ", "repository: ", "workflow: ", "signing workflow: ", "ref: "):
        assert word in message


@given(st.text(min_size=1))
def test_an_identity_matches_itself_only(other: str) -> None:
    expected = SigstoreIdentity(issuer=ISSUER, identity=CLAIMS.san)
    if other != CLAIMS.san:
        refused(expected, replace(CLAIMS, san=other))


def test_a_ref_with_an_at_sign_is_still_a_ref() -> None:
    branch = "refs/heads/fix@2"
    claims = replace(
        CLAIMS,
        build_config_uri=f"{RELEASE}@{branch}",
        build_signer_uri=f"{RELEASE}@{branch}",
        source_repository_ref=branch,
    )
    replace(WORKFLOW, ref=branch).matches(claims)


def test_a_reusable_workflow_is_named_in_full_and_bound_to_the_calling_repository() -> None:
    sign = "https://github.com/acme/shared/.github/workflows/sign.yml@" + "a" * 40
    claims = replace(CLAIMS, san=sign, build_signer_uri=sign)
    expected = replace(WORKFLOW, workflow="acme/shared/.github/workflows/sign.yml")
    expected.matches(claims)
    refused(WORKFLOW, claims)
    refused(expected, replace(claims, source_repository_uri="https://github.com/evil/caller"))


@pytest.mark.parametrize(
    "fields",
    [
        {"issuer": "", "identity": "a@b.test"},
        {"issuer": None, "identity": "a@b.test"},
        {"issuer": "token.actions.githubusercontent.com", "identity": "a@b.test"},
        {"issuer": "https://*", "identity": "a@b.test"},
        {"issuer": ISSUER + "/*", "identity": "a@b.test"},
        {"issuer": ISSUER + "\n", "identity": "a@b.test"},
        {"issuer": ISSUER},
        {"issuer": ISSUER, "identity": ""},
        {"issuer": ISSUER, "identity": "*@b.test"},
        {"issuer": ISSUER, "identity": "Mailto:a@b.test"},
        {"issuer": ISSUER, "identity": "a@b.test", "repository": "acme/worker"},
        {"issuer": ISSUER, "identity": "a@b.test", "ref": "refs/tags/*"},
        {"issuer": ISSUER, "identity": "a@b.test", "workflow": ".github/workflows/x.yml"},
        {"issuer": ISSUER, "workflow": ".github/workflows/x.yml", "ref": "refs/tags/*"},
        {"issuer": ISSUER, "repository": ""},
        {"issuer": ISSUER, "repository": "acme"},
        {"issuer": ISSUER, "repository": "acme/*"},
        {"issuer": ISSUER, "repository": "http://github.com/acme/worker"},
        {"issuer": ISSUER, "repository": "acme/worker/"},
        {"issuer": ISSUER, "repository": "acme/.."},
        {"issuer": ISSUER, "repository": "https://github.com/acme/../worker"},
        {"issuer": ISSUER, "repository": "https://github.com/acme/worker/tree/release"},
        {"issuer": ISSUER, "repository": "https://github.com/acme/worker/.git"},
        {"issuer": ISSUER, "repository": "https://github.com:8443/acme/worker"},
        {"issuer": ISSUER, "repository": "https://user@github.com/acme/worker"},
        {"issuer": ISSUER, "repository": "https://github.com/acme%2Fworker"},
        {"issuer": ISSUER, "repository": "https://g\u0456thub.com/acme/worker"},
        {"issuer": ISSUER, "repository": "git@github.com:acme/worker"},
        {"issuer": ISSUER, "repository": "ssh://git@github.com/acme/worker"},
        {"issuer": "https://gitlab.com", "repository": "https://gitlab.com/acme/worker/-/tree/main"},
        {"issuer": "https://git.example", "repository": "https://git.example/acme/worker/-/tree/main"},
        {"issuer": ISSUER, "repository": "acme/worker", "workflow": ""},
        {"issuer": ISSUER, "repository": "acme/worker", "workflow": "release.yml"},
        {"issuer": ISSUER, "repository": "acme/worker", "workflow": ".github/workflows/*.yml"},
        {"issuer": ISSUER, "repository": "acme/worker", "workflow": ".github/workflows/r.yml@refs/tags/v1"},
        {"issuer": ISSUER, "repository": "acme/worker", "ref": ""},
        {"issuer": ISSUER, "repository": "acme/worker", "ref": "*"},
        {"issuer": ISSUER, "repository": "acme/worker", "ref": "main"},
        {"issuer": ISSUER, "repository": "acme/worker", "ref": "refs/*/v1"},
        {"issuer": ISSUER, "repository": "acme/worker", "ref": "refs/tags/**"},
        {"issuer": ISSUER, "identity": "x" * (MAX_FIELD + 1)},
        # What no certificate has would trust nobody, and the policy would look right.
        {"issuer": ISSUER + "/", "repository": "acme/worker"},
        {"issuer": "http://token.actions.githubusercontent.com", "repository": "acme/worker"},
        {"issuer": "https://Accounts.Google.com", "identity": "a@b.test"},
        {"issuer": "https://accounts.google.com", "identity": r"^a@b\.test$"},
        {"issuer": "https://accounts.google.com", "identity": ".+@b.test"},
        {"issuer": "https://accounts.google.com", "identity": "a@b.test$"},
        {"issuer": ISSUER, "identity": "https://github.com/acme/worker"},
        {"issuer": ISSUER, "identity": RELEASE},
        {"issuer": "https://gitlab.com", "identity": "https://gitlab.com/acme/worker//.gitlab-ci.yml"},
        {"issuer": ISSUER, "repository": "acme/worker", "workflow": ".github/workflows/release"},
        {"issuer": ISSUER, "repository": "acme/worker", "ref": "refs/tags"},
        {"issuer": ISSUER, "repository": "acme/worker", "ref": "refs/tags/"},
        {"issuer": ISSUER, "repository": "acme/worker", "ref": "refs/heads/../main"},
        {"issuer": ISSUER, "repository": "acme/worker", "ref": "refs/heads/my branch"},
        {"issuer": ISSUER, "repository": "acme/worker", "ref": "refs//heads/*"},
    ],
    ids=repr,
)
def test_an_expectation_that_is_empty_loose_or_contradictory_is_the_callers_error(fields: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        SigstoreIdentity(**fields)


@pytest.mark.parametrize(
    ("ref", "any_branch"),
    [(None, True), ("refs/*", True), ("refs/pull/*", True), ("refs/tags/*", False), ("refs/heads/release-1.x", False)],
)
def test_says_whether_a_pull_request_may_sign(ref: str | None, any_branch: bool) -> None:
    assert replace(WORKFLOW, ref=ref).signs_from_any_branch is any_branch
    assert not SigstoreIdentity(issuer=ISSUER, identity=CLAIMS.san).signs_from_any_branch


def test_the_label_is_stable_and_tells_expectations_apart() -> None:
    assert WORKFLOW.label == f"acme/worker/.github/workflows/release.yml@refs/tags/* ({ISSUER})"
    labels = {
        WORKFLOW.label,
        replace(WORKFLOW, ref=None).label,
        replace(WORKFLOW, workflow=None).label,
        replace(WORKFLOW, workflow="acme/shared/.github/workflows/release.yml").label,
        SigstoreIdentity(issuer=ISSUER, identity="a@b.test").label,
        SigstoreIdentity(issuer="https://other.test", identity="a@b.test").label,
    }
    assert len(labels) == 6


def test_one_repository_spelled_twice_is_one_signer() -> None:
    """A threshold of two must not be met by two runs of one repository."""
    spellings = (
        "acme/worker",
        "Acme/Worker",
        "acme/worker.git",
        "https://github.com/Acme/worker",
        "https://github.com:0443/acme/worker",
    )
    signers = {SigstoreIdentity(issuer=ISSUER, repository=spelling) for spelling in spellings}
    assert len(signers) == 1
    with pytest.raises(ConfigError, match="twice"):
        Namespace(
            "org.acme", identities=tuple(SigstoreIdentity(issuer=ISSUER, repository=each) for each in spellings[:2])
        )


def test_case_counts_on_a_host_that_may_tell_names_by_it() -> None:
    expected = SigstoreIdentity(issuer="https://git.example", repository="https://git.example/Acme/worker")
    found = replace(CLAIMS, issuer="https://git.example", source_repository_uri="https://git.example/acme/worker")
    assert "repository" in refused(expected, found)


@pytest.mark.parametrize(
    ("issuer", "repository"),
    [(ISSUER, "https://gitlab.com/acme/worker"), ("https://gitlab.com", "acme/worker")],
)
def test_refuses_issuer_of_another_forge(issuer: str, repository: str) -> None:
    with pytest.raises(ConfigError, match="issuer"):
        SigstoreIdentity(issuer=issuer, repository=repository)


@pytest.mark.parametrize(
    ("workflow", "claimed", "same"),
    [
        (".github/workflows/Build it.yml", "Build%20it.yml", True),
        (".github/workflows/Build it.yml", "Build it.yml", True),
        (".github/workflows/größe.yml", "gr%C3%B6%C3%9Fe.yml", True),
        (".github/workflows/größe.yml", "größe.yml", True),
        (".github/workflows/Build%20it.yml", "Build%20it.yml", True),
        (".github/workflows/Build%20it.yml", "Build it.yml", False),
        (".github/workflows/Build it.yml", "Build+it.yml", False),
        (".github/workflows/größe.yml", "gro%CC%88%C3%9Fe.yml", False),
    ],
)
def test_names_that_a_uri_cannot_hold_are_compared_encoded(workflow: str, claimed: str, same: bool) -> None:
    uri = f"https://github.com/acme/worker/.github/workflows/{claimed}@refs/heads/größe"
    claims = replace(CLAIMS, build_signer_uri=uri, build_config_uri=uri, source_repository_ref="refs/heads/größe")
    expected = SigstoreIdentity(ISSUER, repository="acme/worker", workflow=workflow, ref="refs/heads/größe")
    if same:
        expected.matches(claims)
    else:
        assert "workflow" in refused(expected, claims)


@pytest.mark.parametrize("text", ["a\u202eb", "a\nb", " a", "a ", "a\u200bb", "a\x7f"])
def test_hidden_and_surrounding_characters_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="control characters or blanks at its ends"):
        SigstoreIdentity(ISSUER, repository="acme/worker", ref=f"refs/heads/{text}" if text[0] != " " else text)


GITLAB = "https://gitlab.com"
GITLAB_CLAIMS = CertificateClaims(
    issuer=GITLAB,
    san="https://gitlab.com/acme/tools/worker//.gitlab-ci.yml@refs/tags/v1",
    build_signer_uri="https://gitlab.com/acme/tools/worker//.gitlab-ci.yml@refs/tags/v1",
    build_config_uri="https://gitlab.com/acme/tools/worker//.gitlab-ci.yml@refs/tags/v1",
    source_repository_uri="https://gitlab.com/acme/tools/worker",
    source_repository_ref="refs/tags/v1",
)


def test_a_gitlab_project_and_its_pipeline_match() -> None:
    project = "https://gitlab.com/Acme/tools/worker"
    expected = SigstoreIdentity(GITLAB, repository=project, workflow=".gitlab-ci.yml", ref="refs/tags/*")
    expected.matches(GITLAB_CLAIMS)
    assert expected.label == "https://gitlab.com/acme/tools/worker//.gitlab-ci.yml@refs/tags/* (https://gitlab.com)"
    assert "workflow" in refused(SigstoreIdentity(GITLAB, repository=project, workflow="ci/other.yml"), GITLAB_CLAIMS)
    for name in ("a/b", "../x.yml@y", "/x.yml", "x*.yml", "x"):
        with pytest.raises(ConfigError, match="workflow"):
            SigstoreIdentity(GITLAB, repository=project, workflow=name)
    with pytest.raises(ConfigError, match="workflow"):
        SigstoreIdentity(ISSUER, repository="acme/worker", workflow=".gitlab-ci.yml")


def test_the_host_of_a_repository_says_its_issuer() -> None:
    assert issuer_of("acme/worker") == issuer_of("https://GitHub.com/acme/worker") == ISSUER
    assert issuer_of("https://gitlab.com/acme/worker") == GITLAB
    assert issuer_of("https://git.acme.example/acme/worker") is None
