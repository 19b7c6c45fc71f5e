"""The trust policy: strict, never empty, never ambiguous."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcp_attest import (
    ConfigError,
    HmacSecret,
    KeySigner,
    Namespace,
    Policy,
    SigstoreIdentity,
    load_policy,
    parse_policy,
)
from wcp_attest.base.errors import NamespaceInvalid
from wcp_attest.signing import SignedBy
from wcp_attest.signing.key import generate
from wcp_attest.trust.policy_file import MAX_POLICY_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from wcp_attest.package.signature_file import Line

KEY = generate()
OTHER = generate("p256")
SECRET = "0123456789abcdef0123456789abcdef"
GOOD = """
version = 1
[[namespace]]
name = "org.acme"
threshold = 2
  [[namespace.signer]]
  key = "keys/acme.pub"
  [[namespace.signer]]
  hmac = { env = "ACME_SECRET" }
  [[namespace.signer]]
  hmac = { file = "secret" }
  [[namespace.signer]]
  sigstore = { issuer = "https://issuer.example", identity = "release@acme.example" }
[[namespace]]
name = "x.jane"
  [[namespace.signer]]
  key = "keys/acme.pub"
[sigstore]
trusted_root = "root.json"
require_timestamp = true
[accept]
schemas = ["awp.v2", "awp.v1"]
excludes = false
max_age = "400d"
permissions = "strict"
"""
FILES = {
    "keys/acme.pub": KEY.public_pem(),
    "keys/other.pub": OTHER.public_pem(),
    "secret": b"another secret of good length\n",
    "root.json": b"{}",
}
ENVIRON = {"ACME_SECRET": SECRET}


def read(name: str, limit: int, what: str) -> bytes:
    if name not in FILES:
        raise ConfigError(f"cannot read {what} {name!r}")
    assert len(FILES[name]) <= limit
    return FILES[name]


def parse(text: str) -> Policy:
    return parse_policy(text.encode(), read=read, environ=ENVIRON)


def test_every_field_of_a_policy() -> None:
    policy = parse(GOOD)
    acme = policy.namespace("org.acme")
    assert acme.threshold == 2
    assert [key.key_id for key in acme.keys] == [
        KEY.trusted.key_id,
        HmacSecret(SECRET.encode()).key_id,
        HmacSecret(b"another secret of good length").key_id,
    ]
    assert acme.identities == (SigstoreIdentity("https://issuer.example", identity="release@acme.example"),)
    assert policy.namespace("x.jane").threshold == 1
    assert policy.sigstore.trusted_root == b"{}"
    assert policy.sigstore.require_timestamp
    accept = policy.accept
    assert (accept.schemas, accept.excludes, accept.max_age, accept.permissions) == (
        ("awp.v2", "awp.v1"),
        False,
        400 * 86_400,
        "strict",
    )
    assert len(policy.digest) == 64


def test_what_is_not_said_has_a_safe_default() -> None:
    policy = parse('version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "keys/acme.pub"')
    assert policy.accept.schemas == ("awp.v2",)
    assert policy.accept.max_age is None
    assert policy.sigstore.trusted_root is None
    assert not policy.identities


def test_namespaces_match_exactly() -> None:
    policy = parse(GOOD)
    for name in ("org.acm", "org.acme2", "org.acme.summarizer", "ORG.acme", "org.*", "org", ""):
        with pytest.raises(NamespaceInvalid):
            policy.namespace(name)


def replaced(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "version"),
        ("version = 1", "namespace"),
        ("version = 1\nnamespace = []", "namespace"),
        ('version = 1\nnamespace = "org.acme"', "namespace"),
        (replaced("version = 1", "version = 2"), "version"),
        (replaced("version = 1", 'version = "1"'), "version"),
        (replaced("version = 1", "version = true"), "version"),
        (replaced("version = 1", "version = 1\nextra = 1"), "extra"),
        (replaced('name = "org.acme"', ""), r"namespace\[1\].name"),
        (replaced('name = "org.acme"', 'name = ""'), "name"),
        (replaced('name = "org.acme"', 'name = "org.*"'), "not a namespace"),
        (replaced('name = "org.acme"', 'name = "com.acme"'), "not a namespace"),
        (replaced('name = "org.acme"', 'name = "org.acme.summarizer"'), "not a namespace"),
        (replaced('name = "x.jane"', 'name = "org.acme"'), "twice"),
        (replaced("threshold = 2", "threshold = 0"), "threshold"),
        (replaced("threshold = 2", "threshold = 5"), "threshold"),
        (replaced("threshold = 2", "threshold = -1"), "threshold"),
        (replaced("threshold = 2", "threshold = 1.5"), "threshold"),
        (replaced("threshold = 2", "thresold = 2"), "thresold"),
        (replaced('key = "keys/acme.pub"', 'key = ""'), "key"),
        (replaced('key = "keys/acme.pub"', "key = 1"), "key"),
        (replaced('key = "keys/acme.pub"', 'key = "missing.pub"'), "missing.pub"),
        (replaced('key = "keys/acme.pub"', 'key = "secret"'), "not a public key"),
        (replaced('key = "keys/acme.pub"', "extra = 1"), "exactly one"),
        (replaced('key = "keys/acme.pub"', 'key = "keys/acme.pub"\nextra = 1'), "extra"),
        (replaced('key = "keys/acme.pub"', 'key = "keys/acme.pub"\nhmac = { file = "secret" }'), "exactly one"),
        (replaced('{ env = "ACME_SECRET" }', "{}"), "env"),
        (replaced('{ env = "ACME_SECRET" }', '{ env = "UNSET" }'), "UNSET"),
        (replaced('{ env = "ACME_SECRET" }', '{ env = "ACME_SECRET", file = "secret" }'), "env"),
        (replaced('{ env = "ACME_SECRET" }', '{ env = "ACME_SECRET", extra = 1 }'), "extra"),
        (replaced('{ env = "ACME_SECRET" }', '"ACME_SECRET"'), "table"),
        (replaced('{ file = "secret" }', '{ env = "ACME_SECRET" }'), "twice"),
        (replaced('issuer = "https://issuer.example"', 'issuer = ""'), "issuer"),
        (replaced('issuer = "https://issuer.example", ', ""), "issuer"),
        (replaced('identity = "release@acme.example"', 'identity = "*@acme.example"'), "wildcard"),
        (replaced('identity = "release@acme.example"', 'subject = "a"'), "identity"),
        (replaced("require_timestamp = true", 'require_timestamp = "yes"'), "true or false"),
        (replaced("require_timestamp = true", 'instance = "staging"'), "instance"),
        (replaced("require_timestamp = true", "rekor = 1"), "rekor"),
        (replaced('["awp.v2", "awp.v1"]', "[]"), "schemas"),
        (replaced('["awp.v2", "awp.v1"]', '["awp.v3"]'), "schemas"),
        (replaced('["awp.v2", "awp.v1"]', '"awp.v2"'), "schemas"),
        (replaced("excludes = false", "excludes = 0"), "excludes"),
        (replaced('max_age = "400d"', "max_age = 400"), "max_age"),
        (replaced('max_age = "400d"', 'max_age = "0d"'), "max_age"),
        (replaced('max_age = "400d"', 'max_age = "forever"'), "max_age"),
        (replaced('permissions = "strict"', 'permissions = "lax"'), "permissions"),
        (replaced("[accept]", "[accepts]"), "accepts"),
        (GOOD + "\n[accept]\n", "TOML"),
        ("a = " + "[" * 5000, "TOML|deeply"),
        ("[[[", "TOML"),
        (replaced("version = 1", "version = " + "1" * 5000), "too many digits"),
        (replaced("version = 1", ""), "write `version = 1`"),
    ],
)
def test_everything_else_is_an_error_that_names_the_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(text)


def test_a_byte_order_mark_is_no_part_of_it() -> None:
    assert parse("\ufeff" + GOOD).namespaces == parse(GOOD).namespaces


def test_an_empty_or_weak_secret_is_an_error() -> None:
    for secret in ("", "short", " " * 40):
        with pytest.raises(ConfigError):
            parse_policy(GOOD.encode(), read=read, environ={"ACME_SECRET": secret})


@given(st.binary(max_size=300))
def test_rubbish_never_crashes_and_never_passes(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_policy(data, read=read, environ=ENVIRON)


def test_values_built_in_memory_obey_the_same_rules() -> None:
    for bad in (
        lambda: Policy(()),
        lambda: Namespace("org.acme"),
        lambda: Namespace("org.acme", (KEY.trusted,), threshold=0),
        lambda: Namespace("org.acme", (KEY.trusted,), threshold=2),
        lambda: Namespace("org.acme", (KEY.trusted, KEY.trusted)),
        lambda: Namespace("acme", (KEY.trusted,)),
        lambda: Policy((Namespace("org.acme", (KEY.trusted,)), Namespace("org.acme", (OTHER.trusted,)))),
    ):
        with pytest.raises(ConfigError):
            bad()


def write_policy(folder: Path, text: str = GOOD) -> Path:
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    path = folder / "policy.toml"
    path.write_text(text)
    return path


def test_files_are_taken_from_beside_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_policy(tmp_path / "etc")
    assert load_policy(str(path), ENVIRON) == parse(GOOD)
    # As an orchestrator mounts configuration: through links.
    (tmp_path / "mounted").mkdir()
    for name in ("policy.toml", "keys", "secret", "root.json"):
        (tmp_path / "mounted" / name).symlink_to(tmp_path / "etc" / name)
    assert load_policy(str(tmp_path / "mounted" / "policy.toml"), ENVIRON) == parse(GOOD)
    monkeypatch.chdir(tmp_path / "etc")
    assert load_policy("policy.toml", ENVIRON) == parse(GOOD)


def test_what_is_wrong_with_a_file_names_the_file(tmp_path: Path) -> None:
    path = write_policy(tmp_path, GOOD.replace("version = 1", ""))
    with pytest.raises(ConfigError, match="^" + re.escape(f"{path}: ")):
        load_policy(str(path), ENVIRON)


def test_a_policy_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"#" * (MAX_POLICY_BYTES + 1))
    (tmp_path / "latin").write_bytes(b'version = 1 # \xe9"')
    for name in ("absent", "fifo", "large", "latin", "."):
        with pytest.raises(ConfigError):
            load_policy(str(tmp_path / name), {})


def test_a_private_key_in_a_policy_is_pointed_out(tmp_path: Path) -> None:
    path = write_policy(tmp_path)
    (tmp_path / "keys" / "acme.pub").write_bytes(KeySigner(KEY.private).to_pem(None))
    with pytest.raises(ConfigError, match="private key"):
        load_policy(str(path), ENVIRON)


@dataclass(frozen=True)
class SameId:
    """A secret of somebody else's making, whose id is that of another one: 64 bits can be found by search."""

    key_id: str

    def verify(self, line: Line) -> SignedBy:
        return SignedBy(key_id=line.hint)


def test_two_different_signers_with_one_id_are_refused() -> None:
    secret = HmacSecret(SECRET.encode())
    impostor = SameId(secret.key_id)
    with pytest.raises(ConfigError, match=f"the id {secret.key_id}"):
        Policy((Namespace("x.evil", (impostor,)), Namespace("org.acme", (secret,))))
    with pytest.raises(ConfigError, match="names the same signer twice"):
        Namespace("org.acme", (impostor, secret))
    Policy((Namespace("x.other", (secret,)), Namespace("org.acme", (secret,))))  # one secret for two is no mistake
