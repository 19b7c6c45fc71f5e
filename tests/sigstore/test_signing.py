"""`wcp-attest sign --sigstore` against the loopback instance: every way to an identity, and every way it can fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.bad_http.tls import Certificates
from tests.loopback_sigstore import DIRECT, Fault, LoopbackSigstore, github_claims
from tests.sigstore.packages import BUILD, WORKER, WORKFLOW, Run, build_package, quickly, wcp_attest, write_package
from wcp_attest.base.errors import ConfigError, TrustUnusable
from wcp_attest.package.signature_file import BUNDLE_TYPE, parse_lines
from wcp_attest.signing.key import generate
from wcp_attest.signing.sigstore import trusted_root
from wcp_attest.signing.sigstore.keyless_signer import SigstoreSigner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path / "my-worker")


@pytest.fixture
def config(instance: LoopbackSigstore, tmp_path: Path) -> Path:
    path = tmp_path / "trust_config.json"
    path.write_text(json.dumps(instance.client_trust_config()))
    return path


def sign(
    package: Path, config: Path, *more: str | Path, env: Mapping[str, str], stdin: str = "", process: bool = False
) -> Run:
    run = wcp_attest if process else quickly
    arguments = ("sign", package, "--sigstore", "--trust-config", config, *BUILD, *more)
    return run(*arguments, env={**DIRECT, **env}, stdin=stdin)


def verify(package: Path, config: Path, *trust: str) -> Run:
    return quickly("verify", package, "--worker-id", WORKER, "--trusted-root", config, *trust)


@pytest.mark.parametrize("rekor", [1, 2])
def test_a_ci_job_signs_as_its_workflow(instance: LoopbackSigstore, package: Path, tmp_path: Path, rekor: int) -> None:
    config = tmp_path / "trust_config.json"
    config.write_text(json.dumps(instance.client_trust_config(rekor=rekor)))
    env = instance.ambient_environment(**github_claims())
    signed = sign(package, config, "--format", "json", env=env, process=True)
    assert signed.status == 0, signed
    assert [signer["identity"] for signer in signed.json["signers"]] == [WORKFLOW]
    (line,) = (package / "manifest.sig").read_bytes().splitlines()
    assert json.loads(line)["mediaType"] == BUNDLE_TYPE
    verified = verify(package, config, "--identity", WORKFLOW, "--issuer", instance.issuer)
    assert verified.status == 0, verified


def test_gitlab_hands_its_token_over_by_the_environment(
    instance: LoopbackSigstore, package: Path, config: Path
) -> None:
    token = instance.token(sub="project_path:acme/worker:ref_type:tag:ref:v1")
    signed = sign(package, config, env={"GITLAB_CI": "true", "SIGSTORE_ID_TOKEN": token})
    assert "project_path:acme/worker" in signed.out, signed


def test_buildkite_hands_its_token_over_by_its_agent(
    instance: LoopbackSigstore, package: Path, config: Path, tmp_path: Path
) -> None:
    token = instance.token(sub="organization:acme:pipeline:worker")
    agent = tmp_path / "bin" / "buildkite-agent"
    agent.parent.mkdir()
    agent.write_text(f'#!/bin/sh\n[ "$*" = "oidc request-token --audience sigstore" ] && echo {token}\n')
    agent.chmod(0o755)
    path = f"{agent.parent}{os.pathsep}{os.environ['PATH']}"
    signed = sign(package, config, env={"BUILDKITE": "true", "PATH": path})
    assert "organization:acme" in signed.out, signed


def test_a_token_comes_from_a_file_standard_input_or_the_environment(
    instance: LoopbackSigstore, package: Path, config: Path, tmp_path: Path
) -> None:
    for number, source in enumerate(("file", "-", "env")):
        token = instance.token(email=f"person{number}@acme.test")
        file = tmp_path / "token"
        file.write_text(token + "\n")
        name = str(file) if source == "file" else source
        env = {"SIGSTORE_ID_TOKEN": token} if source == "env" else {}
        signed = sign(package, config, "--identity-token", name, env=env, stdin=token if source == "-" else "")
        assert f"person{number}@acme.test" in signed.out, signed
        assert token not in signed.out + signed.err


def test_a_person_logs_in_with_a_browser(instance: LoopbackSigstore, package: Path, config: Path) -> None:
    signed = sign(package, config, "--browser", env=instance.browser_environment(), process=True)
    assert "release@acme.test" in signed.out, signed


def test_where_nobody_can_log_in_it_says_so_at_once(instance: LoopbackSigstore, package: Path, config: Path) -> None:
    before = len(instance.requests)
    failed = sign(package, config, env={})
    assert (failed.status, instance.requests[before:]) == (2, [])
    assert "id-token: write" in failed.err


def test_the_command_it_prints_verifies(
    instance: LoopbackSigstore, package: Path, config: Path, tmp_path: Path
) -> None:
    key = tmp_path / "release.key"
    assert quickly("keygen", key, "--no-passphrase").status == 0
    env = instance.ambient_environment(**github_claims())
    signed = sign(package, config, "--key", key, "--format", "json", env=env)
    words = signed.json["verify_command"].split()
    assert words[:2] == ["wcp-attest", "verify"]
    assert quickly(*words[1:]).status == 0


def test_signing_again_replaces_the_own_signature_and_keeps_those_of_others(
    instance: LoopbackSigstore, package: Path, config: Path
) -> None:
    def identities() -> list[str]:
        shown = quickly("show", package, "--format", "json").json
        return [signature["keyless"]["identity"] for signature in shown["signatures"]]

    build_package(package)

    def sign_as(email: str) -> None:
        signed = quickly(
            "sign",
            package,
            "--sigstore",
            "--trust-config",
            config,
            "--identity-token",
            "-",
            env=DIRECT,
            stdin=instance.token(email=email),
        )
        assert signed.status == 0, signed

    sign_as("a@acme.test")
    sign_as("b@acme.test")
    assert identities() == ["a@acme.test", "b@acme.test"]
    sign_as("a@acme.test")
    assert identities() == ["b@acme.test", "a@acme.test"]
    file = package / "manifest.sig"
    file.write_bytes(file.read_bytes().replace(b'"rawBytes":"MII', b'"rawBytes":"AAA'))
    sign_as("a@acme.test")
    assert len(file.read_bytes().splitlines()) == 3  # whose the unreadable ones are cannot be told, so they stay


def test_the_bundle_alone_is_written_for_release_assets(
    instance: LoopbackSigstore, package: Path, config: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my-worker.sigstore.json"
    env = instance.ambient_environment(**github_claims())
    assert sign(package, config, "--bundle-out", out, env=env).status == 0
    assert out.read_bytes() == (package / "manifest.sig").read_bytes()
    inside = sign(package, config, "--bundle-out", package / "code" / ".." / "b.json", env=env)
    assert (inside.status, (package / "b.json").exists()) == (2, False)


NAMES_SERVICE = [
    (Fault.NO_SCT, "certificate authority"),
    (Fault.BAD_SCT, "certificate authority"),
    (Fault.OLD_CERTIFICATE, "certificate authority"),
    (Fault.FULCIO_500, "certificate authority"),
    (Fault.FULCIO_HTML, "certificate authority"),
    (Fault.FULCIO_GARBAGE, "certificate authority"),
    (Fault.FULCIO_CLOSES, "certificate authority"),
    (Fault.REKOR_409, "transparency log"),
    (Fault.REKOR_500, "transparency log"),
    (Fault.REKOR_GARBAGE, "transparency log"),
    (Fault.REKOR_CLOSES, "transparency log"),
    (Fault.TSA_500, "timestamp authority"),
    (Fault.TSA_GARBAGE, "timestamp authority"),
    (Fault.ROGUE_CA, "does not verify"),
    (Fault.BAD_PROOF, "does not verify"),
    (Fault.BAD_CHECKPOINT, "does not verify"),
    (Fault.BAD_BODY, "does not verify"),
    (Fault.BAD_TIMESTAMP, "does not verify"),
]


@pytest.mark.parametrize(
    ("fault", "words", "rekor"),
    [
        *((fault, words, 1) for fault, words in [*NAMES_SERVICE, (Fault.BAD_PROMISE, "does not verify")]),
        *((fault, words, 2) for fault, words in NAMES_SERVICE if words != "certificate authority"),
    ],
)
def test_a_failure_names_the_service_and_nothing_is_written(
    instance: LoopbackSigstore,
    package: Path,
    tmp_path: Path,
    fault: Fault,
    words: str,
    rekor: int,
) -> None:
    config, out = tmp_path / "config.json", tmp_path / "bundle.json"
    config.write_text(json.dumps(instance.client_trust_config(rekor=rekor)))
    with instance.failing(fault):
        env = instance.ambient_environment(**github_claims())
        failed = sign(package, config, "--bundle-out", out, env=env)
    assert failed.status == 2
    assert words in failed.err
    assert failed.err.count("\n") == 1
    assert not (package / "manifest.sig").exists()
    assert not out.exists()


@pytest.mark.parametrize(("fault", "words"), [(Fault.OIDC_500, "identity provider"), (Fault.TUF_500, "")], ids=str)
def test_a_failing_identity_provider_is_named(
    instance: LoopbackSigstore, package: Path, config: Path, fault: Fault, words: str
) -> None:
    """What a signature does not need does not disturb it: nothing asks TUF where the trust is configured."""
    with instance.failing(fault):
        run = sign(package, config, env=instance.ambient_environment(**github_claims()))
    assert (run.status == 2) is bool(words)
    assert words in run.err


def given_up_on(
    instance: LoopbackSigstore, path: str, package: Path, config: Path, *more: str, env: Mapping[str, str]
) -> Run:
    """Sign with a deadline that is long enough for this machine to reach the service at `path`, and no longer."""
    for seconds in ("3", "12", "48"):
        before = len(instance.requests)
        failed = sign(package, config, "--timeout", seconds, *more, env=env, process=True)
        assert failed.status == 2
        assert f"did not answer within {seconds} s" in failed.err
        assert not (package / "manifest.sig").exists()
        if path in instance.requests[before:]:
            return failed
    raise AssertionError(f"{path} was never asked for")


@pytest.mark.parametrize(
    ("fault", "path", "words"),
    [
        (Fault.OIDC_HANGS, "GET /oidc/ambient", "the CI system's identity provider"),
        (Fault.FULCIO_HANGS, "POST /api/v2/signingCert", "the certificate authority http"),
        (Fault.REKOR_HANGS, "POST /api/v1/log/entries", "the transparency log http"),
    ],
)
def test_a_service_that_hangs_is_given_up_on_and_named(
    instance: LoopbackSigstore, package: Path, config: Path, fault: Fault, path: str, words: str
) -> None:
    """The library would wait for ever."""
    with instance.failing(fault):
        env = instance.ambient_environment(**github_claims())
        assert words in given_up_on(instance, path, package, config, env=env).err


def test_a_person_who_never_logs_in_is_given_up_on(instance: LoopbackSigstore, package: Path, config: Path) -> None:
    """The browser flow leaves a thread behind that would keep the interpreter from ending."""
    path = "GET /oidc/.well-known/openid-configuration"
    failed = given_up_on(instance, path, package, config, "--browser", env={"BROWSER": "true %s"})
    assert f"the identity provider {instance.issuer}" in failed.err


def test_an_interrupt_ends_both_processes(instance: LoopbackSigstore, package: Path, config: Path) -> None:
    with instance.failing(Fault.FULCIO_HANGS):
        before = len(instance.requests)
        running = subprocess.Popen(
            [sys.executable, "-m", "wcp_attest", "sign", package, "--sigstore", "--trust-config", config, *BUILD],
            env={**os.environ, **instance.ambient_environment(**github_claims())},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        while "POST /api/v2/signingCert" not in instance.requests[before:]:
            assert running.poll() is None
            time.sleep(0.01)
        os.killpg(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (130, "", "interrupted\n")


def test_the_token_is_sent_over_encrypted_connections_only(
    instance: LoopbackSigstore, package: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    for url in ("http://sigstore.acme.test", "http://127.0.0.1.acme.test", "ftp://127.0.0.1", "http://[", ""):
        text = json.dumps(instance.client_trust_config()).replace(f'{{"url": "{instance.base}"', f'{{"url": "{url}"', 1)
        assert f'"url": "{url}"' in text
        config.write_text(text)
        failed = sign(package, config, env=instance.ambient_environment())
        assert (failed.status, "only https" in failed.err) == (2, True), failed


def test_modules_of_the_current_directory_are_not_imported(
    instance: LoopbackSigstore, package: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current directory may be the very tree that is signed."""
    for name in ("sigstore", "wcp_attest", "requests", "json"):
        (package / f"{name}.py").write_text("raise SystemExit('planted code ran')\n")
    monkeypatch.chdir(package)
    signer = SigstoreSigner(config=config.read_bytes(), token=instance.token().encode())
    assert parse_lines(
        signer.sign(
            b'{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"manifest.json",'
            b'"digest":{"sha256":"%s"}}],"predicateType":"x","predicate":{}}' % (b"0" * 64)
        )
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--identity-token", "-"),
        ("--trust-config", "config.json"),
        ("--bundle-out", "b.json"),
        ("--browser",),
        ("--staging",),
        ("--timeout", "5"),
        ("--sigstore", "--staging", "--trust-config", "config.json"),
        ("--sigstore", "--identity-token", "-", "--browser"),
        ("--sigstore", "--timeout", "0"),
        ("--sigstore", "--timeout", "-1"),
        ("--sigstore", "--trust-config", "/nonexistent"),
        ("--sigstore", "--identity-token", "/nonexistent"),
        ("--sigstore", "--identity-token", "env"),
        ("--sigstore", "--identity-token", "-"),
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense_are_refused_before_anything_is_done(
    package: Path, arguments: tuple[str, ...]
) -> None:
    failed = quickly("sign", package, *BUILD, *arguments, stdin="")
    assert (failed.status, failed.out) == (2, "")
    assert not (package / "manifest.json").exists()


def test_a_token_from_a_closed_standard_input_is_an_empty_one(package: Path) -> None:
    line = '"$0" -m wcp_attest sign "$1" --sigstore --identity-token - <&-'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, package], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: the identity token is empty")


def test_a_key_given_as_trust_config_is_not_printed(package: Path) -> None:
    secret = generate().to_pem(None).decode()
    (package.parent / "acme.key").write_text(secret)
    failed = quickly("sign", package, *BUILD, "--sigstore", "--trust-config", package.parent / "acme.key")
    assert failed.status == 2
    assert "the trust config is not JSON" in failed.err
    body = secret.splitlines()[1]
    assert not any(body[at : at + 6] in failed.err for at in range(len(body) - 6))


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"{" * 100_000, b" " * (4 * 1024 * 1024 + 1)])
def test_a_malformed_trust_config_is_the_callers_error(data: bytes) -> None:
    with pytest.raises(ConfigError):
        SigstoreSigner(config=data)


@pytest.mark.parametrize("token", [b"", b" \n", b"\xff", b"a b\nc", b"x" * 100_000])
def test_a_malformed_token_is_the_callers_error(token: bytes) -> None:
    with pytest.raises(ConfigError):
        SigstoreSigner(token=token)


@pytest.mark.parametrize("token", ["x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."])
def test_a_token_that_is_none_is_said_to_be_and_not_shown(package: Path, config: Path, token: str) -> None:
    failed = sign(package, config, "--identity-token", "-", env={}, stdin=token)
    assert (failed.status, "identity token" in failed.err) == (2, True), failed


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("kind", ["absent", "pipe", "empty"])
def test_certificates_of_the_environment_that_cannot_be_read_are_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, kind: str
) -> None:
    place = tmp_path / "authorities.pem"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "empty":
        place.touch()
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(place))
    with pytest.raises(ConfigError, match=f"authorities.pem.*{variable}"):
        SigstoreSigner(token=b"a.b.c", instance="staging").sign(b"{}")
    monkeypatch.setattr(trusted_root, "_remembered", {})
    with pytest.raises(TrustUnusable, match=f"authorities.pem.*{variable}"):
        trusted_root.public_root("staging")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "CURL_CA_BUNDLE"])  # one that OpenSSL reads, one of `requests`
def test_variables_for_own_authorities_are_heard_by_every_library(tmp_path: Path, package: Path, variable: str) -> None:
    certificates = Certificates.make(tmp_path)
    with LoopbackSigstore(certificates.server) as instance:
        config = tmp_path / "config.json"
        config.write_text(json.dumps(instance.client_trust_config()))
        (tmp_path / "token").write_text(instance.token(**github_claims()))
        arguments = ("--identity-token", tmp_path / "token")
        assert sign(package, config, *arguments, env={}).status == 2
        signed = sign(package, config, *arguments, env={variable: certificates.authority})
        assert signed.status == 0, signed


@pytest.mark.parametrize("place", ["missing/x.json", "folder", "link"])
def test_a_bundle_that_cannot_be_written_is_said_before_anything_is_published(
    instance: LoopbackSigstore, package: Path, config: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    seen = len(instance.requests)
    run = sign(package, config, "--bundle-out", tmp_path / place, env=instance.ambient_environment(**github_claims()))
    assert (run.status, "nothing was signed" in run.err) == (2, True), run
    assert instance.requests[seen:] == []
    assert not (package / "manifest.sig").exists()


@pytest.mark.parametrize("seconds", ["1e12", "inf", "nan", "86401"])
def test_a_deadline_that_no_system_can_keep_is_refused(
    package: Path, config: Path, tmp_path: Path, seconds: str
) -> None:
    (tmp_path / "token").write_text("a.b.c")
    run = sign(package, config, "--identity-token", tmp_path / "token", "--timeout", seconds, env={})
    assert (run.status, "at most 86400 seconds" in run.err) == (2, True), run


@pytest.mark.parametrize("variable", ["HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"])
def test_refuses_to_keep_the_public_root_inside_the_package(variable: str, package: Path) -> None:
    before = sorted(package.rglob("*"))
    run = quickly("sign", package, "--sigstore", "--identity-token", "env", *BUILD, env={variable: str(package)})
    assert run.status == 2
    assert "lies inside the package" in run.err
    assert sorted(package.rglob("*")) == before


def test_refuses_an_identity_token_inside_the_package(package: Path, config: Path) -> None:
    (package / "token").write_text("a.b.c")
    run = sign(package, config, "--identity-token", package / "token", env={})
    assert run.status == 2
    assert "keep secrets elsewhere" in run.err


TOKENS: dict[str, Callable[[Callable[..., str]], str]] = {
    "expired": lambda made: made(exp=int(time.time()) - 600),
    "early": lambda made: made(iat=int(time.time()) + 3600, nbf=int(time.time()) + 3600),
    "for another audience": lambda made: made(aud="somebody-else"),
    "without a subject": lambda made: made(sub=None),
    "in JSON": lambda made: json.dumps({"value": made()}),
    "in quotes": lambda made: f'"{made()}"',
    "empty": lambda made: "",
}


@pytest.mark.parametrize("kind", TOKENS)
def test_an_identity_token_that_cannot_sign_is_refused_and_not_shown(
    instance: LoopbackSigstore, package: Path, config: Path, tmp_path: Path, kind: str
) -> None:
    def made(**claims: object) -> str:
        return instance.token(**{"email": "ann@acme.test", **claims})

    token = TOKENS[kind](made)
    (tmp_path / "token").write_text(token)
    run = sign(package, config, "--identity-token", tmp_path / "token", env={})
    assert (run.status, run.err.count("\n")) == (2, 1), run
    assert run.err.startswith("error: ")
    assert not (package / "manifest.sig").exists()
    for part in filter(None, token.split(".")):
        assert part not in run.out + run.err
