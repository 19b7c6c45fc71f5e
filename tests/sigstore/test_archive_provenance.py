"""A build provenance over an archive as an extra condition: SLSA and PEP 740, and everything that does not count."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from sigstore.dsse import Statement as SigstoreStatement
from sigstore.models import ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext

from tests.loopback_sigstore import DIRECT, LoopbackSigstore, github_claims
from tests.sigstore.packages import BUILD, WORKER, quickly, write_package
from wcp_attest.signing.key import generate

if TYPE_CHECKING:
    from pathlib import Path

BUILDER = "https://github.com/actions/runner/github-hosted"
SLSA = "https://slsa.dev/provenance/v1"
PUBLISH = "https://docs.pypi.org/attestations/publish/v1"


@dataclass(frozen=True, slots=True)
class Release:
    """A signed package packed as an archive, the key that signed it, and a Sigstore instance."""

    folder: Path
    archive: Path
    instance: LoopbackSigstore

    def statement(self, **changes: Any) -> bytes:
        """Return a provenance over the archive, with some fields changed."""
        digest = hashlib.sha256(self.archive.read_bytes()).hexdigest()
        fields = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": self.archive.name, "digest": {"sha256": digest}}],
            "predicateType": SLSA,
            "predicate": {
                "buildDefinition": {"buildType": "https://actions.github.io/buildtypes/workflow/v1"},
                "runDetails": {"builder": {"id": BUILDER}},
            },
        }
        return json.dumps({**fields, **changes}).encode()

    def bundle(self, statement: bytes, repository: str = "acme/worker") -> str:
        """Return a keyless signature over a statement."""
        config = ClientTrustConfig.from_json(json.dumps(self.instance.client_trust_config(rekor=1)))
        token = IdentityToken(self.instance.token(**github_claims(repository)))
        with SigningContext.from_trust_config(config).signer(token) as signer:
            return signer.sign_dsse(SigstoreStatement(statement)).to_json()

    def policy(self, table: str, *, signer: str | None = None) -> Path:
        """Write a policy that trusts the package's key and asks for provenance by a repository."""
        (self.folder / "root.json").write_text(json.dumps(self.instance.trusted_root()))
        keyless = f'[[provenance.signer]]\n[provenance.signer.sigstore]\nissuer = "{self.instance.issuer}"\n'
        path = self.folder / "policy.toml"
        path.write_text(
            'version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "acme.pub"\n'
            '[sigstore]\ntrusted_root = "root.json"\n'
            f"[provenance]\n{table}\n" + (signer or keyless + 'repository = "acme/worker"\n')
        )
        return path

    def verify(self, policy: Path, *options: str | Path) -> Any:
        """Verify the archive and return the result."""
        run = quickly("verify", self.archive, "--policy", policy, "--format", "json", *options, env=DIRECT)
        assert run.out, run
        return run.json

    def given(self, text: str | bytes, name: str = "given") -> tuple[str, Path]:
        """Write attestations to a file and return the option that names it."""
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return "--provenance", path


@pytest.fixture
def release(instance: LoopbackSigstore, tmp_path: Path) -> Release:
    package, signer = write_package(tmp_path / "my-worker"), generate()
    (tmp_path / "acme.key").write_bytes(signer.to_pem(None))
    (tmp_path / "acme.pub").write_bytes(signer.public_pem())
    assert quickly("sign", package, "--key", tmp_path / "acme.key", *BUILD).status == 0
    archive = tmp_path / "my-worker.tar.gz"
    assert quickly("pack", package, "-o", archive).status == 0
    return Release(tmp_path, archive, instance)


def pep740(bundle: str) -> dict[str, Any]:
    """Return a bundle as the attestation object of an index."""
    fields = json.loads(bundle)
    return {
        "version": 1,
        "verification_material": {
            "certificate": fields["verificationMaterial"]["certificate"]["rawBytes"],
            "transparency_entries": fields["verificationMaterial"]["tlogEntries"],
        },
        "envelope": {
            "statement": fields["dsseEnvelope"]["payload"],
            "signature": fields["dsseEnvelope"]["signatures"][0]["sig"],
        },
    }


def test_accepts_slsa_provenance_of_the_named_repository_and_builder(release: Release) -> None:
    policy = release.policy(f'kind = "slsa"\nbuilder = "{BUILDER}"')
    bundle = release.bundle(release.statement())
    assert release.verify(policy, *release.given(bundle + "\n"))["ok"]
    # The same file beside the archive needs no option, and other attestations may stand beside it.
    other = release.bundle(release.statement(predicateType="https://cyclonedx.org/bom"))
    release.given(f"{other}\n{bundle}\n", release.archive.name + ".intoto.jsonl")
    assert release.verify(policy)["ok"]
    unpacked = quickly("unpack", release.archive, release.folder / "out", "--policy", policy, env=DIRECT)
    assert unpacked.status == 0, unpacked


def test_refuses_what_does_not_meet_the_condition(release: Release) -> None:
    policy = release.policy(f'kind = "slsa"\nbuilder = "{BUILDER}"')
    denied = release.verify(policy)
    assert (denied["code"], denied["ok"]) == ("ATTEST_NOT_ACCEPTABLE", False)
    assert ".intoto.jsonl" in denied["message"]
    elsewhere = {"name": release.archive.name, "digest": {"sha256": "0" * 64}}
    local = {"runDetails": {"builder": {"id": "https://laptop.test"}}}
    cases = [
        (release.bundle(release.statement(), "evil/worker"), "repository"),
        (release.bundle(release.statement(subject=[elsewhere])), "not about this archive"),
        (release.bundle(release.statement(predicateType=PUBLISH)), "is of type"),
        (release.bundle(release.statement(predicate=local)), "https://laptop.test"),
        (release.bundle(release.statement(predicate={"runDetails": []})), "names the builder"),
        ("{}", "DSSE envelope"),
        ("", "holds no signature"),
        ("[" * 100_000, "file of provenance"),
    ]
    for text, says in cases:
        denied = release.verify(policy, *release.given(text))
        assert denied["code"] == "ATTEST_NOT_ACCEPTABLE", denied
        assert says in denied["message"]
    changed = json.loads(release.bundle(release.statement()))
    changed["dsseEnvelope"]["payload"] = base64.b64encode(release.statement(predicate={})).decode()
    assert release.verify(policy, *release.given(json.dumps(changed)))["code"] == "ATTEST_NOT_ACCEPTABLE"


def test_refuses_an_archive_that_was_repacked_after_its_build(release: Release) -> None:
    policy = release.policy('kind = "slsa"')
    release.given(release.bundle(release.statement()), release.archive.name + ".intoto.jsonl")
    assert release.verify(policy)["ok"]
    release.archive.unlink()
    assert quickly("pack", release.folder / "my-worker", "-o", release.folder / "my-worker.zip").status == 0
    (release.folder / "my-worker.zip").rename(release.archive)
    assert release.verify(policy)["code"] == "ATTEST_NOT_ACCEPTABLE"


def test_refuses_a_directory_and_the_gate_does_too(release: Release) -> None:
    policy = release.policy('kind = "slsa"')
    bundle = release.given(release.bundle(release.statement()))
    run = quickly("verify", release.folder / "my-worker", "--policy", policy, "--format", "json", env=DIRECT)
    assert (run.status, run.json["code"]) == (1, "ATTEST_NOT_ACCEPTABLE")
    run = quickly("verify", release.folder / "my-worker", "--policy", policy, *bundle, env=DIRECT)
    assert run.status == 2
    assert "--provenance is about an archive" in run.err
    request = json.dumps({"version": 1, "path": str(release.folder / "my-worker")})
    run = quickly("gate", "--host", "json", "--policy", policy, stdin=request, env=DIRECT)
    assert (run.status, run.json["decision"]) == (1, "block")


def test_the_gate_finds_the_provenance_beside_an_archive(release: Release) -> None:
    policy = release.policy('kind = "slsa"')
    request = json.dumps({"version": 1, "path": str(release.archive)})
    assert quickly("gate", "--host", "json", "--policy", policy, stdin=request, env=DIRECT).status == 1
    release.given(release.bundle(release.statement()), release.archive.name + ".intoto.jsonl")
    assert quickly("gate", "--host", "json", "--policy", policy, stdin=request, env=DIRECT).status == 0


def test_accepts_provenance_by_a_key_and_refuses_a_forged_one(release: Release) -> None:
    builder, stranger = generate(), generate()
    (release.folder / "builder.pub").write_bytes(builder.public_pem())
    policy = release.policy('kind = "slsa"', signer='[[provenance.signer]]\nkey = "builder.pub"\n')
    line = builder.sign(release.statement())
    assert release.verify(policy, *release.given(line))["ok"]
    assert release.verify(policy, *release.given(stranger.sign(release.statement())))["code"] == "ATTEST_NOT_ACCEPTABLE"
    fields = json.loads(stranger.sign(release.statement()))
    fields["verificationMaterial"] = json.loads(line)["verificationMaterial"]
    assert release.verify(policy, *release.given(json.dumps(fields)))["code"] == "ATTEST_NOT_ACCEPTABLE"


def test_accepts_the_attestation_and_the_provenance_object_of_an_index(release: Release) -> None:
    policy = release.policy('kind = "pep740"')
    publish = release.statement(predicateType=PUBLISH, predicate=None)
    attestation = pep740(release.bundle(publish))
    assert release.verify(policy, *release.given(json.dumps(attestation)))["ok"]
    publisher = {"kind": "GitHub", "repository": "acme/worker", "workflow": "release.yml"}
    whole = {"version": 1, "attestation_bundles": [{"publisher": publisher, "attestations": [attestation]}]}
    release.given(json.dumps(whole), release.archive.name + ".publish.attestation")
    assert release.verify(policy)["ok"]
    # The publisher that the index names is not signed: only the certificate counts.
    evil = pep740(release.bundle(publish, "evil/worker"))
    whole["attestation_bundles"] = [{"publisher": publisher, "attestations": [evil]}]
    denied = release.verify(policy, *release.given(json.dumps(whole)))
    assert denied["code"] == "ATTEST_NOT_ACCEPTABLE"
    other = release.statement(
        predicateType=PUBLISH, predicate=None, subject=[{**json.loads(publish)["subject"][0], "name": "other.tar.gz"}]
    )
    denied = release.verify(policy, *release.given(json.dumps(pep740(release.bundle(other)))))
    assert "other.tar.gz" in denied["message"]


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", "\x00", "{" * 50_000,
        '{"version": 2}', '{"version": true}', '{"version": 1}', '{"version": 1, "attestation_bundles": []}',
        '{"version": 1, "attestation_bundles": [{"attestations": [1, null, {}]}]}',
        '{"version": 1, "version": 1}',
        json.dumps(
            {
                "version": 1,
                "verification_material": {"certificate": "!", "transparency_entries": []},
                "envelope": {"statement": "!", "signature": "!"},
            }
        ),
    ],
)  # fmt: skip
def test_refuses_malformed_attestation_objects(release: Release, text: str) -> None:
    denied = release.verify(release.policy('kind = "pep740"'), *release.given(text))
    assert denied["code"] == "ATTEST_NOT_ACCEPTABLE", denied


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('kind = "slsa2"', "provenance.kind"),
        ("", "provenance.kind"),
        ('kind = "pep740"\nbuilder = "x"', "names no builder"),
        ('kind = "slsa"\nlevel = 3', "provenance.level"),
    ],
)
def test_refuses_a_table_that_says_nothing_or_too_much(release: Release, table: str, says: str) -> None:
    run = quickly("verify", release.archive, "--policy", release.policy(table), env=DIRECT)
    assert run.status == 2
    assert says in run.err


def test_a_provenance_that_nobody_asks_for_is_an_error(release: Release) -> None:
    bundle = release.given("{}")
    trust = ("--public-key", release.folder / "acme.pub", "--worker-id", WORKER)
    run = quickly("verify", release.archive, *trust, *bundle, env=DIRECT)
    assert run.status == 2
    assert "[provenance]" in run.err


def test_policy_show_names_the_condition_and_check_reads_it(release: Release) -> None:
    policy = release.policy(f'kind = "slsa"\nbuilder = "{BUILDER}"')
    shown = quickly("policy", "show", policy).out
    assert "archives only, with a slsa provenance" in shown
    assert BUILDER in shown
    assert quickly("policy", "check", policy).status == 0


def test_no_package_may_hold_the_fetched_root_that_judges_its_provenance(release: Release) -> None:
    policy = release.policy('kind = "slsa"')
    policy.write_text(policy.read_text().replace('trusted_root = "root.json"', 'instance = "staging"'))
    package = release.folder / "my-worker"
    kept = {**DIRECT, "XDG_DATA_HOME": str(package / "data"), "XDG_CACHE_HOME": str(package / "cache")}
    run = quickly("verify", package, "--policy", policy, env=kept)
    assert run.status == 2
    assert "is inside the package" in run.err
