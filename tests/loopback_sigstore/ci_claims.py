"""Claims of a CI system's token, and what Fulcio puts into a certificate for them.

Fulcio's extensions are numbered under 1.3.6.1.4.1.57264.1; those below 8 hold bare octets, the later ones a DER
UTF8String (Fulcio's `docs/oid-info.md`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from tests.loopback_sigstore import der

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GITHUB = "https://github.com/"
FULCIO_ARC = "1.3.6.1.4.1.57264.1"
ISSUER, ISSUER_V2 = 1, 8
FIRST_DER_EXTENSION = 8

# Claim -> numbers of the extensions that repeat its value.
PLAIN: Mapping[str, tuple[int, ...]] = {
    "event_name": (2, 20),
    "sha": (3, 13),
    "workflow": (4,),
    "repository": (5,),
    "ref": (6, 14),
    "job_workflow_sha": (10,),
    "runner_environment": (11,),
    "repository_id": (15,),
    "repository_owner_id": (17,),
    "workflow_sha": (19,),
    "repository_visibility": (22,),
}
# Claim -> number of the extension that holds it as a URL on the forge.
AS_URL: Mapping[str, int] = {"job_workflow_ref": 9, "repository": 12, "repository_owner": 16, "workflow_ref": 18}


def github_claims(
    repository: str = "acme/worker",
    workflow: str = ".github/workflows/release.yml",
    ref: str = "refs/tags/v1",
    job_workflow_ref: str | None = None,
) -> dict[str, str]:
    """Return the claims of a run.

    Args:
        repository: `owner/name`.
        workflow: the path of the workflow file that the run started with.
        ref: the full Git ref that was built.
        job_workflow_ref: the workflow of the signing job, when it is a reusable one.
    """
    started = f"{repository}/{workflow}@{ref}"
    return {
        "sub": f"repo:{repository}:ref:{ref}",
        "event_name": "push",
        "sha": "0" * 39 + "1",
        "workflow": "release",
        "repository": repository,
        "repository_id": "1",
        "repository_owner": repository.partition("/")[0],
        "repository_owner_id": "2",
        "repository_visibility": "public",
        "ref": ref,
        "workflow_ref": started,
        "workflow_sha": "0" * 39 + "1",
        "job_workflow_ref": job_workflow_ref or started,
        "job_workflow_sha": "0" * 39 + "1",
        "runner_environment": "github-hosted",
        "run_id": "7",
        "run_attempt": "1",
    }


def gitlab_claims(project: str = "acme/worker", tag: str = "v1") -> dict[str, str]:
    """Return the claims of a GitLab job for a tag.

    Args:
        project: `group/name`.
        tag: the tag.
    """
    return {
        "sub": f"project_path:{project}:ref_type:tag:ref:{tag}",
        "project_path": project,
        "ref": tag,
        "ref_type": "tag",
        "ref_path": f"refs/tags/{tag}",
        "ci_config_ref_uri": f"gitlab.com/{project}//.gitlab-ci.yml@refs/tags/{tag}",
        "job_id": "7",
    }


def identity_of(claims: Mapping[str, object]) -> str:
    """Return the subject alternative name that Fulcio derives from a token: workflow, e-mail address or subject."""
    if workflow := claims.get("job_workflow_ref"):
        return f"{GITHUB}{workflow}"
    if pipeline := claims.get("ci_config_ref_uri"):
        return f"https://{pipeline}"
    return str(claims.get("email") or claims["sub"])


def extensions(claims: Mapping[str, object]) -> Iterator[x509.UnrecognizedExtension]:
    """Yield the extensions of a certificate for these claims."""
    issuer = str(claims["iss"])
    yield _extension(ISSUER, issuer)
    yield _extension(ISSUER_V2, issuer)
    of_provider = _of_gitlab(claims) if "project_path" in claims else _of_github(claims)
    for number, value in of_provider:
        yield _extension(number, value)


def _of_github(claims: Mapping[str, object]) -> Iterator[tuple[int, str]]:
    for claim, numbers in PLAIN.items():
        for number in numbers if claim in claims else ():
            yield number, str(claims[claim])
    for claim, number in AS_URL.items():
        if claim in claims:
            yield number, f"{GITHUB}{claims[claim]}"
    if "run_id" in claims:
        run = f"{claims['repository']}/actions/runs/{claims['run_id']}/attempts/{claims['run_attempt']}"
        yield 21, f"{GITHUB}{run}"


def _of_gitlab(claims: Mapping[str, object]) -> Iterator[tuple[int, str]]:
    project, pipeline = f"https://gitlab.com/{claims['project_path']}", f"https://{claims['ci_config_ref_uri']}"
    yield 9, pipeline
    yield 12, project
    yield 14, str(claims["ref_path"])
    yield 18, pipeline
    yield 21, f"{project}/-/jobs/{claims['job_id']}"


def _extension(number: int, value: str) -> x509.UnrecognizedExtension:
    content = value.encode() if number < FIRST_DER_EXTENSION else der.utf8_string(value)
    return x509.UnrecognizedExtension(ObjectIdentifier(f"{FULCIO_ARC}.{number}"), content)
