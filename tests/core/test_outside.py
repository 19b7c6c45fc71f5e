"""Nothing that decides may lie inside the package, wherever it was named and however it is reached."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.core.test_verification import KEY, NOW, built, make_tree
from wcp_attest import ConfigError, HmacSecret, Namespace, Policy, SigstoreTrust, TrustedKey, load_policy, sign, verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIGNER = '[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "acme.pub"\n'
BANS = '[bans]\nmax_age = "24h"\n'


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = make_tree(tmp_path / "worker")
    (package / "keys").mkdir()
    for folder in (package / "keys", tmp_path):
        (folder / "acme.pub").write_bytes(KEY.public_pem())
        (folder / "secret").write_bytes(b"a shared secret of good length")
        (folder / "root.json").write_bytes(b"{}")
    sign(package, [KEY], manifest=built(package), now=NOW)
    return package


def loaded(package: Path, text: str) -> Policy:
    file = package.parent / "policy.toml"
    file.write_text("version = 1\n" + text)
    return load_policy(file, {"HOME": str(package.parent)})


def second_signer(text: str) -> str:
    return f"{SIGNER}[[namespace.signer]]\n{text}\n"


INSIDE = {
    "key": second_signer('key = "worker/keys/acme.pub"').replace('key = "acme.pub"', 'hmac = {file="secret"}'),
    "secret": second_signer('hmac = { file = "worker/keys/secret" }'),
    "trusted root": SIGNER + '[sigstore]\ntrusted_root = "worker/keys/root.json"\n',
    "unsigned ban list": SIGNER + BANS + '[[bans.source]]\nfile = "worker/bans.json"\nsigned = false\n',
    "compiled ban list": (
        SIGNER + BANS + '[[bans.source]]\nfile = "bans.json"\ncompiled = "worker/bans.idx"\nsigned = false\n'
    ),
    "key of ban lists": (
        SIGNER + BANS + '[[bans.signer]]\nkey = "worker/keys/acme.pub"\n[[bans.source]]\nfile = "bans.json"\n'
    ),
    "state": SIGNER + BANS + 'state = "worker/state"\n[[bans.source]]\nfile = "bans.json"\nsigned = false\n',
    "TUF root": (
        SIGNER
        + BANS
        + '[[bans.signer]]\nkey = "acme.pub"\n[[bans.source]]\n[bans.source.tuf]\nmetadata = "https://localhost/m"\n'
        'targets = "https://localhost/t"\nroot = "worker/keys/root.json"\ntarget = "bans.json"\n'
    ),
    "certificates of a list": (
        SIGNER
        + BANS
        + '[[bans.signer]]\nkey = "acme.pub"\n[[bans.source]]\nurl = "https://localhost/b"\nca_file = "worker/ca.pem"\n'
    ),
    "certificates of a registry": (
        SIGNER + '[registry]\nrequire = true\nurl = "https://localhost"\nca_file = "worker/ca.pem"\n'
    ),
}


@pytest.mark.parametrize("what", sorted(INSIDE))
def test_refuses_what_a_policy_names_inside_the_package(what: str, package: Path) -> None:
    policy = loaded(package, INSIDE[what])
    with pytest.raises(ConfigError, match="is inside the package"):
        verify(package, policy, now=NOW)
    assert not (package / "state").exists()


def test_takes_the_same_things_from_outside(package: Path) -> None:
    assert verify(package, loaded(package, second_signer('hmac = { file = "secret" }')), now=NOW).ok


IN_MEMORY: dict[str, Callable[[Path], Policy]] = {
    "key": lambda root: Policy((Namespace("org.acme", (TrustedKey.from_file(root / "keys/acme.pub"),)),)),
    "secret": lambda root: Policy((Namespace("org.acme", (KEY.trusted, HmacSecret.from_file(root / "keys/secret"))),)),
    "root": lambda root: Policy(
        (Namespace("org.acme", (KEY.trusted,)),), sigstore=SigstoreTrust(b"{}", file=str(root / "keys/root.json"))
    ),
}


@pytest.mark.parametrize("what", sorted(IN_MEMORY))
def test_refuses_what_a_program_took_from_the_package(what: str, package: Path) -> None:
    with pytest.raises(ConfigError, match="is inside the package"):
        verify(package, IN_MEMORY[what](package), now=NOW)


def test_refuses_links_that_lead_in_or_out_of_the_package(package: Path) -> None:
    outside = package.parent
    (outside / "in.pub").symlink_to("worker/keys/acme.pub")
    (package / "out.pub").symlink_to("../acme.pub")
    (outside / "hop.pub").symlink_to("worker/out.pub")
    (outside / "folder").symlink_to("worker/keys")
    for name in ("in.pub", "worker/out.pub", "hop.pub", "folder/acme.pub", "worker/../worker/keys/acme.pub"):
        trusted = Policy((Namespace("org.acme", (TrustedKey.from_file(outside / name),)),))
        with pytest.raises(ConfigError, match="is inside the package"):
            verify(package, trusted, now=NOW)


def test_sees_through_another_name_of_the_root(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package.parent / "other").symlink_to(".")
    trusted = Policy((Namespace("org.acme", (TrustedKey.from_file(package / "keys/acme.pub"),)),))
    for root in (package.parent / "other" / "worker", package / "keys" / ".."):
        with pytest.raises(ConfigError, match="is inside the package"):
            verify(root, trusted, now=NOW)
    monkeypatch.chdir(package)
    relative = Policy((Namespace("org.acme", (TrustedKey.from_file("keys/acme.pub"),)),))
    with pytest.raises(ConfigError, match="is inside the package"):
        verify(".", relative, now=NOW)


def test_accepts_a_key_beside_the_package_that_is_named_from_within(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(package)
    for name in ("../acme.pub", "./.././acme.pub", f"{package}/../acme.pub"):
        assert verify(".", Policy((Namespace("org.acme", (TrustedKey.from_file(name),)),)), now=NOW), name
    monkeypatch.chdir(package.parent)
    assert verify(package, Policy((Namespace("org.acme", (TrustedKey.from_file("worker/../acme.pub"),)),)), now=NOW)


@pytest.mark.parametrize("name", ["keys/../../acme.pub", "../worker/keys/../../acme.pub", "keys/.././../acme.pub"])
def test_refuses_a_key_outside_that_is_reached_through_a_folder_of_the_package(
    package: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(package)
    with pytest.raises(ConfigError, match="is inside the package"):
        verify(".", Policy((Namespace("org.acme", (TrustedKey.from_file(name),)),)), now=NOW)


def test_remembers_where_a_link_led_when_the_key_was_read(package: Path) -> None:
    link = package.parent / "link.pub"
    link.symlink_to("worker/keys/acme.pub")
    trusted = Policy((Namespace("org.acme", (TrustedKey.from_file(link),)),))
    link.unlink()
    link.symlink_to("acme.pub")
    with pytest.raises(ConfigError, match="is inside the package"):
        verify(package, trusted, now=NOW)


def test_links_in_a_circle_end(package: Path) -> None:
    (package.parent / "a").symlink_to("b")
    (package.parent / "b").symlink_to("a")
    policy = Policy((Namespace("org.acme", (KEY.trusted,)),), files=(os.fspath(package.parent / "a"),))
    verify(package, policy, now=NOW)


def test_takes_dots_after_a_link_from_where_the_link_leads(package: Path) -> None:
    (package.parent / "etc").mkdir()
    (package.parent / "etc" / "link").symlink_to("../worker/keys")
    (package.parent / "etc" / "acme.pub").write_bytes(KEY.public_pem())
    (package / "acme.pub").write_bytes(KEY.public_pem())
    trusted = Policy((Namespace("org.acme", (TrustedKey.from_file(f"{package.parent}/etc/link/../acme.pub"),)),))
    with pytest.raises(ConfigError, match=r"worker/acme\.pub' is inside the package"):
        verify(package, trusted, now=NOW)


def lead_link_into_package(root: Path) -> None:
    (root / "etc" / "now").unlink()
    (root / "etc" / "now").symlink_to("../worker/keys")


def put_folder_with_link_in_place_of_link(root: Path) -> None:
    (root / "etc" / "now").unlink()
    (root / "etc" / "now").mkdir()
    (root / "etc" / "now" / "bans.json").symlink_to("../../worker/keys/bans.json")


def put_link_in_place_of_folder(root: Path) -> None:
    (root / "etc").rename(root / "worker" / "etc")
    (root / "etc").symlink_to("worker/etc")


def put_link_in_place_of_file(root: Path) -> None:
    (root / "etc" / "first" / "bans.json").unlink()
    (root / "etc" / "first" / "bans.json").symlink_to(root / "worker" / "keys" / "bans.json")


def put_package_in_place_of_folder(root: Path) -> None:
    (root / "etc" / "first").rename(root / "etc" / "second")
    (root / "worker").rename(root / "etc" / "first")
    (root / "worker").symlink_to("etc/first")


@pytest.mark.parametrize(
    "change",
    [
        lead_link_into_package,
        put_folder_with_link_in_place_of_link,
        put_link_in_place_of_folder,
        put_link_in_place_of_file,
        put_package_in_place_of_folder,
    ],
)
def test_refuses_what_moved_into_the_package_after_it_was_verified(
    change: Callable[[Path], None], package: Path
) -> None:
    root = package.parent
    (root / "etc" / "first").mkdir(parents=True)
    (root / "etc" / "now").symlink_to("first")
    (root / "etc" / "first" / "bans.json").write_bytes(b"no matter")
    policy = Policy((Namespace("org.acme", (KEY.trusted,)),), files=(str(root / "etc" / "now" / "bans.json"),))
    for _ in range(2):
        assert verify(package, policy, now=NOW).ok
    change(root)
    for _ in range(2):
        with pytest.raises(ConfigError, match="is inside the package"):
            verify(f"{package}/.", policy, now=NOW)


def test_follows_a_link_that_is_swapped_outside_of_the_package(package: Path) -> None:
    folder = package.parent / "etc"
    for name in ("..first", "..second"):
        (folder / name).mkdir(parents=True)
        (folder / name / "bans.json").write_bytes(b"no matter")
    link = folder / "..data"
    link.symlink_to("..first")
    policy = Policy((Namespace("org.acme", (KEY.trusted,)),), files=(str(link / "bans.json"),))
    assert verify(package, policy, now=NOW).ok
    link.unlink()
    link.symlink_to("..second")
    for _ in range(2):
        assert verify(package, policy, now=NOW).ok


def test_refuses_to_judge_the_whole_file_system(package: Path) -> None:
    policy = Policy((Namespace("org.acme", (KEY.trusted,)),), files=(str(package.parent / "policy.toml"),))
    with pytest.raises(ConfigError, match="is inside the package"):
        policy.check_outside("/")


ASKS_A_SERVER = SIGNER + '[registry]\nrequire = true\nurl = "https://localhost:9"\n'
KEYLESS = second_signer('sigstore = { issuer = "https://token.example", identity = "a@acme.test" }')


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
@pytest.mark.parametrize("text", [ASKS_A_SERVER, KEYLESS], ids=["registry", "public root"])
def test_refuses_certificates_of_the_environment_inside_the_package(
    variable: str, text: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = loaded(package, text)
    policy.check_outside(str(package))
    monkeypatch.setenv(variable, str(package / "keys"))
    with pytest.raises(ConfigError, match="is inside the package"):
        verify(package, policy, now=NOW)
    monkeypatch.setenv(variable, str(package.parent))
    policy.check_outside(str(package))
    if variable == "SSL_CERT_DIR":  # the one that names several
        monkeypatch.setenv(variable, f"/etc/ssl/certs:{package / 'keys'}")
        with pytest.raises(ConfigError, match="is inside the package"):
            policy.check_outside(str(package))


def test_asks_nothing_of_the_environment_where_no_server_is_asked(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(package / "keys" / "acme.pub"))
    assert verify(package, loaded(package, SIGNER), now=NOW).ok


@pytest.mark.parametrize("variable", ["HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"])
def test_refuses_the_copy_of_a_public_root_inside_the_package(
    variable: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = loaded(package, KEYLESS)
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(package))
    before = sorted(package.rglob("*"))
    with pytest.raises(ConfigError, match="is inside the package"):
        verify(package, policy, now=NOW)
    assert sorted(package.rglob("*")) == before
    pinned = loaded(package, KEYLESS + '[sigstore]\ntrusted_root = "root.json"\n')
    pinned.check_outside(str(package))
