"""`wcp-attest policy`: init, check, show, add-signer, remove-signer, and a policy that is pinned."""

from __future__ import annotations

import json
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import IDENTITY, SCHEMAS, SECRET
from tests.forked import SCRIPT
from wcp_attest.cli import main
from wcp_attest.signing.key import generate
from wcp_attest.trust.policy_file import load_policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Do = Callable[..., tuple[int, str, str]]


@pytest.fixture
def do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Do:
    """Run the program's entry point in the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WCP_ATTEST_POLICY", "WCP_ATTEST_STATE_DIR", "XDG_STATE_HOME", "WCP_ATTEST_HMAC_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("a", "b", "soc"):
        signer = generate()
        (tmp_path / f"{name}.key").write_bytes(signer.to_pem(None))
        (tmp_path / f"{name}.pub").write_bytes(signer.public_pem())

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([*arguments])
        done = capsys.readouterr()
        return status, done.out, done.err

    return run


def init(do: Do, *more: str) -> None:
    assert do("policy", "init", "p.toml", "--namespace", "org.acme", "--public-key", "a.pub", *more)[0] == 0


def test_init_writes_what_narrows_before_the_signers(do: Do, tmp_path: Path) -> None:
    do("ban", "new", "bans.json", "--name", "acme", "--expires", "7d")
    do("ban", "sign", "bans.json", "--key", "soc.key")
    init(do, "--max-age", "90d", "--bans", "bans.json", "--ban-signer", "soc.pub", "--state", "state")
    text = (tmp_path / "p.toml").read_text()
    assert text.index("[accept]") < text.index("[bans]") < text.index("[[namespace]]")
    assert load_policy(tmp_path / "p.toml").accept.max_age == 90 * 86_400
    assert do("policy", "check", "p.toml")[0] == 0
    for cut in range(len(text)):  # a file that was cut short trusts nobody: it never accepts more
        try:
            tables = tomllib.loads(text[:cut])
        except tomllib.TOMLDecodeError:
            continue
        if tables.get("namespace"):
            assert {"accept", "bans"} <= set(tables)


def test_init_takes_several_identities_and_own_lists(do: Do, tmp_path: Path) -> None:
    do("ban", "new", "own.json", "--name", "own", "--expires", "7d")
    issuer = ("--issuer", "https://accounts.example.com")
    init(do, "--identity", "x@acme.example", "--identity", "y@acme.example", *issuer, "--own-bans", "own.json")
    policy = load_policy(tmp_path / "p.toml")
    assert [identity.identity for identity in policy.identities] == ["x@acme.example", "y@acme.example"]
    assert do("policy", "check", "p.toml")[0] == 0
    do("policy", "init", "q.toml", "--namespace", "org.acme", "--repository", "acme/a", "--repository",
       "https://gitlab.com/acme/b")  # fmt: skip
    assert [identity.issuer for identity in load_policy(tmp_path / "q.toml").identities] == [
        "https://token.actions.githubusercontent.com",
        "https://gitlab.com",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--bans", "b.json"), "--ban-signer go together"),
        (("--ban-signer", "soc.pub"), "--ban-signer go together"),
        (("--state", "x"), "give --bans or --own-bans"),
        (("--ref", "refs/tags/*"), "narrow a --repository"),
        (("--issuer", "https://x"), "--issuer belongs to"),
        (("--identity", "x"), "--identity needs --issuer"),
        (("--repository", "https://git.acme.example/a/b"), "give its --issuer"),
        (("--max-age", "soon"), "span such as"),
    ],
)
def test_init_refuses_options_that_would_mean_nothing(do: Do, options: tuple[str, ...], said: str) -> None:
    status, _, err = do("policy", "init", "p.toml", "--namespace", "org.acme", "--public-key", "a.pub", *options)
    assert (status, said in err) == (2, True), err


@pytest.mark.parametrize("damage", ["unsigned", "missing", "expired", "foreign", "state is a file"])
def test_check_refuses_ban_lists_that_verify_could_not_use(do: Do, tmp_path: Path, damage: str) -> None:
    do("ban", "new", "bans.json", "--name", "acme", "--expires", "7d")
    if damage != "unsigned":
        do("ban", "sign", "bans.json", "--key", "a.key" if damage == "foreign" else "soc.key")
    init(do, "--bans", "bans.json", "--ban-signer", "soc.pub", "--state", "state")
    if damage == "missing":
        (tmp_path / "bans.json").unlink()
    if damage == "expired":
        (tmp_path / "p.toml").write_text((tmp_path / "p.toml").read_text().replace('"24h"', '"1s"'))
        document = json.loads((tmp_path / "bans.json").read_text())
        document["issued_at"] = "2026-01-01T00:00:00Z"
        (tmp_path / "bans.json").write_text(json.dumps(document))
        do("ban", "sign", "bans.json", "--key", "soc.key")
    if damage == "state is a file":
        (tmp_path / "state").write_text("")
    status, _, err = do("policy", "check", "p.toml")
    assert (status, err.startswith("error: p.toml: ")) == (2, True), err


@pytest.mark.parametrize("content", ["not a root", "{}", "[]", ""])
def test_check_refuses_a_root_that_verify_could_not_use(do: Do, tmp_path: Path, content: str) -> None:
    do("policy", "init", "p.toml", "--namespace", "org.acme", "--repository", "acme/worker")
    (tmp_path / "root.json").write_text(content)
    text = (tmp_path / "p.toml").read_text()
    (tmp_path / "p.toml").write_text(text + '[sigstore]\ntrusted_root = "root.json"\n')
    status, _, err = do("policy", "check", "p.toml")
    assert (status, "trusted root" in err) == (2, True), err


def test_check_says_that_a_root_which_is_not_pinned_was_not_checked(do: Do) -> None:
    do("policy", "init", "p.toml", "--namespace", "org.acme", "--repository", "acme/worker")
    status, out, err = do("policy", "check", "p.toml")
    assert (status, out[:2], "not checked: the root of Sigstore" in err) == (0, "OK", True), err
    init_by_key = do("policy", "init", "k.toml", "--namespace", "org.acme", "--public-key", "a.pub")
    assert init_by_key[0] == 0
    assert do("policy", "check", "k.toml")[2] == ""


@pytest.mark.parametrize("content", [None, "", "rubbish"])
def test_check_refuses_certificates_that_verify_could_not_use(do: Do, tmp_path: Path, content: str | None) -> None:
    init(do)
    text = (tmp_path / "p.toml").read_text()
    table = '[registry]\nrequire = true\nurl = "https://registry.example"\nca_file = "ca.pem"\n'
    (tmp_path / "p.toml").write_text(text + table)
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    status, _, err = do("policy", "check", "p.toml")
    assert (status, "ca.pem" in err) == (2, True), err


def test_check_refuses_certificates_that_the_environment_names_wrongly(
    do: Do, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(do)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
    assert do("policy", "check", "p.toml")[0] == 0  # nothing is asked over a network
    text = (tmp_path / "p.toml").read_text()
    (tmp_path / "p.toml").write_text(text + '[registry]\nrequire = true\nurl = "https://registry.example"\n')
    status, _, err = do("policy", "check", "p.toml")
    assert (status, "(SSL_CERT_FILE or REQUESTS_CA_BUNDLE)" in err) == (2, True), err


def test_show_names_lists_their_signers_and_their_age(do: Do) -> None:
    do("ban", "new", "bans.json", "--name", "acme", "--expires", "7d")
    do("ban", "sign", "bans.json", "--key", "soc.key")
    init(do, "--bans", "bans.json", "--ban-signer", "soc.pub", "--state", "state")
    _, out, _ = do("policy", "show", "p.toml")
    assert "ban lists, each at most 1d old" in out
    assert "bans.json (issued 0" in out
    assert "signed by 1 of: key sha256:" in out
    assert "with the files it reads: sha256:" in out


def test_signers_are_rotated_without_touching_the_rest(do: Do, tmp_path: Path) -> None:
    init(do)
    path = tmp_path / "p.toml"
    path.write_text("# ours\n" + path.read_text() + "  # the end\n")
    path.chmod(0o640)
    before = path.read_text()
    assert do("policy", "add-signer", "p.toml", "--public-key", "b.pub", "--threshold", "2")[0] == 0
    policy = load_policy(path)
    assert (len(policy.keys), policy.namespaces[0].threshold) == (2, 2)
    assert path.stat().st_mode & 0o777 == 0o640
    status, _, err = do("policy", "remove-signer", "p.toml", "--public-key", "a.pub")
    assert (status, "a threshold of 2 with 1 signers" in err) == (2, True)
    key_id = policy.keys[1].key_id
    assert do("policy", "remove-signer", "p.toml", "--key-id", f"sha256:{key_id}", "--threshold", "1")[0] == 0
    assert path.read_text() == before
    status, _, err = do("policy", "remove-signer", "p.toml", "--public-key", "a.pub")
    assert (status, "the only signer" in err, path.read_text()) == (2, True, before), "nobody would be left"
    status, _, err = do("policy", "remove-signer", "p.toml", "--public-key", "b.pub")
    assert (status, "does not trust" in err) == (2, True)


@pytest.mark.parametrize(
    "option",
    ["--max-age", "--state", "--own-bans", "--bans", "--public-key", "--workflow", "--ref", "--issuer", "--repository"],
)
def test_an_empty_value_is_refused_and_not_taken_for_an_option_left_out(do: Do, tmp_path: Path, option: str) -> None:
    bans = () if option == "--own-bans" else ("--bans", "https://x.example/b.json", "--ban-signer", "soc.pub")
    given = ("--namespace", "org.acme", "--public-key", "a.pub", *bans, option, "")
    status, out, err = do("policy", "init", "p.toml", *given)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert not (tmp_path / "p.toml").exists()


def test_a_policy_is_made_and_edited_where_no_home_is_set(
    do: Do, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HOME")
    do("ban", "new", "bans.json", "--name", "acme-soc")
    init(do, "--bans", "bans.json", "--ban-signer", "soc.pub")
    assert do("policy", "add-signer", "p.toml", "--public-key", "b.pub")[0] == 0
    assert '"b.pub"' in (tmp_path / "p.toml").read_text()
    status, _, err = do("policy", "check", "p.toml")
    assert (status, "no state directory for ban lists" in err) == (2, True), "the verifier needs one"


def test_keyless_signers_are_added_and_removed(do: Do, tmp_path: Path) -> None:
    init(do)
    before = (tmp_path / "p.toml").read_text()
    named = ("--repository", "acme/worker", "--workflow", ".github/workflows/release.yml", "--ref", "refs/tags/*")
    status, out, _ = do("policy", "add-signer", "p.toml", *named, "--format", "json")
    value = json.loads(out)
    schema = json.loads((SCHEMAS / "policy-edit.json").read_text())
    assert (status, value["signers"], set(value) - set(schema["properties"])) == (0, 2, set())
    assert load_policy(tmp_path / "p.toml").identities[0].repository == "acme/worker"
    assert do("policy", "remove-signer", "p.toml", *named)[0] == 0
    assert (tmp_path / "p.toml").read_text() == before
    assert do("policy", "add-signer", "p.toml")[0] == 2
    assert do("policy", "add-signer", "p.toml", "--hmac", "--public-key", "b.pub")[0] == 2
    assert do("policy", "add-signer", "p.toml", "--public-key", "a.pub")[0] == 2, "the same signer twice"
    assert do("policy", "add-signer", "p.toml", "--public-key", "b.pub", "--namespace", "org.other")[0] == 2
    assert (tmp_path / "p.toml").read_text() == before


def test_additions_at_once_lose_nothing(do: Do, tmp_path: Path) -> None:
    init(do)
    names = [f"k{number}" for number in range(4)]
    for name in names:
        (tmp_path / f"{name}.pub").write_bytes(generate().public_pem())
    running = [
        subprocess.Popen([SCRIPT, "policy", "add-signer", "p.toml", "--public-key", f"{name}.pub"], cwd=tmp_path)
        for name in names
    ]
    assert [process.wait(60) for process in running] == [0] * 4
    assert len(load_policy(tmp_path / "p.toml").keys) == 5


def test_a_pinned_policy_is_that_one_or_nothing(do: Do, tmp_path: Path, package: Path) -> None:
    init(do)
    do("sign", str(package), "--key", "a.key", *IDENTITY)
    value = json.loads(do("policy", "show", "p.toml", "--format", "json")[1])
    trust = ("verify", str(package), "--policy", "p.toml", "--policy-sha256")
    for pin in (value["sha256"], f"sha256:{value['sha256'].upper()}", value["content_sha256"]):
        assert do(*trust, pin)[0] == 0
    status, _, err = do(*trust, "0" * 64)
    assert (status, "not the policy that is pinned" in err) == (2, True)
    assert do(*trust, "abc")[0] == 2
    status, _, err = do("verify", str(package), "--public-key", "a.pub", "--policy-sha256", value["sha256"])
    assert (status, "--policy-sha256 pins a policy" in err) == (2, True)
    (tmp_path / "a.pub").write_bytes((tmp_path / "a.pub").read_bytes() + b"\n")  # the key file changed, the policy not
    assert do(*trust, value["sha256"])[0] == 0
    assert do(*trust, value["content_sha256"])[0] == 2
    text = (tmp_path / "p.toml").read_text()
    (tmp_path / "p.toml").write_text(text.replace("[accept]", "[sigstore]\n[accept]"))
    assert do(*trust, value["sha256"])[0] == 2


def test_the_digest_over_all_files_tells_nothing_of_a_secret(do: Do, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    text = '[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nhmac = { file = "secret" }\n'
    (tmp_path / "p.toml").write_text("version = 1\n" + text)
    before = load_policy(tmp_path / "p.toml").content_digest
    (tmp_path / "secret").write_text(SECRET[::-1])
    assert load_policy(tmp_path / "p.toml").content_digest == before


def test_a_threshold_that_is_not_met_names_who_signed_and_who_did_not(do: Do, tmp_path: Path, package: Path) -> None:
    keyless = ("--repository", "acme/worker")
    init(do, "--public-key", "b.pub", *keyless, "--threshold", "2")
    do("sign", str(package), "--key", "a.key", *IDENTITY)
    signed, missing = (key.key_id for key in load_policy(tmp_path / "p.toml").keys)
    status, out, _ = do("verify", str(package), "--policy", "p.toml", "--format", "json")
    message = json.loads(out)["message"]
    assert status == 1
    assert f"1 has signed: key sha256:{signed}; not yet: key sha256:{missing}, acme/worker (" in message


def test_init_takes_the_issuer_of_the_host_or_asks_for_it(do: Do, tmp_path: Path) -> None:
    start = ("policy", "init", "p.toml", "--namespace", "org.acme", "--repository")
    assert do(*start, "https://gitlab.com/acme/worker")[0] == 0
    text = (tmp_path / "p.toml").read_text()
    assert 'issuer = "https://gitlab.com"' in text
    assert "githubusercontent" not in text
    status, _, err = do(*start, "https://forge.example/acme/worker", "--force")
    assert (status, "give its --issuer" in err) == (2, True)
    assert (tmp_path / "p.toml").read_text() == text
    assert do(*start, "https://forge.example/acme/worker", "--force", "--issuer", "https://forge.example")[0] == 0


def test_check_names_a_repository_from_every_branch_of_which_may_sign(do: Do, tmp_path: Path) -> None:
    head = 'version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\n[namespace.signer.sigstore]\n'
    head += 'issuer = "https://token.actions.githubusercontent.com"\nrepository = "acme/worker"\n'
    for ref, said in (("", True), ('ref = "refs/*"\n', True), ('ref = "refs/tags/*"\n', False)):
        (tmp_path / "p.toml").write_text(head + ref)
        status, _, err = do("policy", "check", "p.toml")
        assert (status, "everybody who may push a branch may sign" in err) == (0, said)
