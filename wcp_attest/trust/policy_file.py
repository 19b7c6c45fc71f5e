"""A trust policy read from TOML.

    version = 1
    [[namespace]]
    name = "org.acme"
    threshold = 1                              # distinct signers of the list below
      [[namespace.signer]]
      key = "keys/acme-2026.pub"               # beside the policy file
      [[namespace.signer]]
      [namespace.signer.sigstore]              # TOML 1.0 wants an inline table on one line, so a table of its own
      issuer = "https://token.actions.githubusercontent.com"
      repository = "acme/worker"
      workflow = ".github/workflows/release.yml"
      ref = "refs/tags/*"
      [[namespace.signer]]
      hmac = { env = "WCP_ATTEST_HMAC_KEY" }   # or { file = "secret" }
    [sigstore]
    trusted_root = "trusted_root.json"         # pinned: verification opens no socket
    require_timestamp = false
    [accept]
    schemas = ["awp.v2"]
    excludes = false
    max_age = "400d"                           # s, m, h, d, w
    permissions = "normal"
    [bans]                                     # wcp_attest.trust.bans
    [registry]                                 # wcp_attest.trust.registry
    [provenance]                               # wcp_attest.trust.archive_provenance

An unknown key is an error. Files are read when the policy is read, so that a policy either works or says why not.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from wcp_attest.base import strictjson
from wcp_attest.base import toml_table as stricttoml
from wcp_attest.base.digest import is_hex_digest, sha256_hex
from wcp_attest.base.errors import ConfigError
from wcp_attest.base.toml_table import Table
from wcp_attest.disk.files import read_bounded
from wcp_attest.signing import SigstoreTrust
from wcp_attest.signing.hmac import MAX_FILE_BYTES as MAX_SECRET_FILE_BYTES
from wcp_attest.signing.hmac import HmacSecret
from wcp_attest.signing.key import MAX_KEY_FILE_BYTES, TrustedKey
from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity
from wcp_attest.trust.policy import Accept, Condition, Namespace, Policy, Schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from wcp_attest.signing import TrustedSigner

MAX_POLICY_BYTES = 1024 * 1024
SECRET_FILE = "the secret"  # noqa: S105  # what a file is, for messages
MAX_TRUSTED_ROOT_BYTES = 4 * 1024 * 1024

Read: TypeAlias = "Callable[[str, int, str], bytes]"


def load_policy(
    path: str | os.PathLike[str], environ: Mapping[str, str] | None = None, *, sha256: str | None = None
) -> Policy:
    """Read a policy file and the key files it names.

    Args:
        path: the TOML file; the files it names are relative to it.
        environ: where secrets named by `env` are taken from; the process environment by default.
        sha256: pins the policy: the SHA-256 of the file (`Policy.digest`), or of the file and the files it reads
            (`Policy.content_digest`), 64 hex digits, with or without `sha256:` before them. A policy that lost its last
            tables is still TOML, and accepts more; a pin notices.

    Returns:
        The policy; it knows the paths of all that was read.

    Raises:
        ConfigError: a file cannot be read, the policy is malformed, empty or contradicts itself, or is not the one that
            `sha256` names.
    """
    file = os.fspath(path)
    folder = os.path.dirname(file)
    files = [file]
    contents: dict[str, str] = {}

    def read(name: str, limit: int, what: str) -> bytes:
        files.append(os.path.join(folder, name))
        content = read_bounded(files[-1], limit=limit, what=what, follow=True)
        # A digest of a secret would let everybody who sees it try guesses; the name and presence of it must do.
        contents[name] = what if what == SECRET_FILE else sha256_hex(content)
        return content

    pin = None
    if sha256 is not None:
        pin = sha256.strip().lower().removeprefix("sha256:")
        if not is_hex_digest(pin):
            raise ConfigError(
                f"the pin of a policy is 64 hex digits, not {sha256[:80]!r}; `wcp-attest policy show` prints it"
            )
    data = read_bounded(file, limit=MAX_POLICY_BYTES, what="the policy", follow=True)
    try:
        policy = parse_policy(data, read=read, environ=os.environ if environ is None else environ, folder=folder)
    except ConfigError as problem:
        raise ConfigError(f"{file}: {problem}") from None
    listed = strictjson.dumps({"policy": policy.digest, "files": {name: contents[name] for name in sorted(contents)}})
    content_digest = sha256_hex(listed)
    if pin is not None and pin not in {policy.digest, content_digest}:
        raise ConfigError(
            f"{file} is not the policy that is pinned: it has sha256:{policy.digest}, and the pin is {pin}"
        )
    return replace(policy, files=(*policy.files, *files), content_digest=content_digest)


def parse_policy(data: bytes, *, read: Read, environ: Mapping[str, str], folder: str | os.PathLike[str] = "") -> Policy:
    """Parse the text of a policy.

    Args:
        data: TOML 1.0 in UTF-8.
        read: returns the bytes of a file that the policy names; takes its name, the largest size in bytes and what it
            is, for messages.
        environ: where secrets named by `env` are taken from.
        folder: ban lists, which are read when a package is verified, are named relative to it.

    Returns:
        The policy.

    Raises:
        ConfigError: the policy is malformed, empty or contradicts itself, or a file or secret that it names is missing.
    """
    top = Table(stricttoml.loads(data, "the policy"), "")
    if "version" not in top:
        raise ConfigError("the policy does not say its `version`; write `version = 1` as its first line")
    if top.integer("version") != 1:
        raise ConfigError("the policy's `version` is not 1, the only one there is")
    sigstore = _sigstore(top.table("sigstore"), read)
    table, default = top.table("accept"), Accept()
    accept = Accept(
        schemas=cast("tuple[Schema, ...]", table.texts("schemas")) if "schemas" in table else default.schemas,
        excludes=table.flag("excludes", default=default.excludes),
        max_age=table.age("max_age") if "max_age" in table else None,
        permissions=cast("Literal['normal', 'strict']", table.text("permissions"))
        if "permissions" in table
        else default.permissions,
    )
    table.finish()
    policy = Policy(
        namespaces=tuple(_namespace(table, read, environ) for table in top.tables("namespace")),
        accept=accept,
        sigstore=sigstore,
        conditions=_conditions(top, sigstore, read, environ, os.fspath(folder)),
        digest=sha256_hex(data),
    )
    top.finish()
    return policy


def _namespace(table: Table, read: Read, environ: Mapping[str, str]) -> Namespace:
    keys: list[TrustedSigner] = []
    identities: list[SigstoreIdentity] = []
    for signer in table.tables("signer"):
        trusted = _signer(signer, read, environ)
        if isinstance(trusted, SigstoreIdentity):
            identities.append(trusted)
        else:
            keys.append(trusted)
    namespace = Namespace(table.text("name"), tuple(keys), tuple(identities), table.integer("threshold", 1))
    table.finish()
    return namespace


def _signer(table: Table, read: Read, environ: Mapping[str, str]) -> TrustedSigner | SigstoreIdentity:
    methods = [method for method in ("key", "hmac", "sigstore") if method in table]
    if len(methods) != 1:
        raise table.wrong("key", "given alone: a signer is exactly one of `key`, `hmac` and `sigstore`")
    trusted: TrustedSigner | SigstoreIdentity
    match methods[0]:
        case "key":
            name = table.text("key")
            trusted = TrustedKey.from_file_bytes(read(name, MAX_KEY_FILE_BYTES, "the key"), what=name)
        case "hmac":
            trusted = _secret(table.table("hmac"), read, environ)
        case _:
            named = table.table("sigstore")
            optional = ("identity", "repository", "workflow", "ref")
            trusted = SigstoreIdentity(
                named.text("issuer"), **{name: named.text(name) for name in optional if name in named}
            )
            named.finish()
    table.finish()
    return trusted


def _secret(table: Table, read: Read, environ: Mapping[str, str]) -> HmacSecret:
    if ("env" in table) == ("file" in table):
        raise table.wrong("env", "given alone: an hmac signer is exactly one of `env` and `file`")
    if "file" in table:
        name = table.text("file")
        secret = HmacSecret.from_file_bytes(read(name, MAX_SECRET_FILE_BYTES, SECRET_FILE))
    else:
        variable = table.text("env")
        if variable not in environ:
            raise ConfigError(f"the policy takes a secret from {variable}, which is not set")
        secret = HmacSecret.from_file_bytes(os.fsencode(environ[variable]))
    table.finish()
    return secret


def _sigstore(table: Table, read: Read) -> SigstoreTrust:
    root = None
    if "trusted_root" in table:
        root = read(table.text("trusted_root"), MAX_TRUSTED_ROOT_BYTES, "the pinned trusted root")
    instance = table.text("instance") if "instance" in table else "production"
    if instance not in {"production", "staging"} or (root is not None and instance != "production"):
        raise table.wrong("instance", "`production` or `staging`, or it is given beside a pinned root")
    trust = SigstoreTrust(
        root, table.flag("require_timestamp", default=False), cast("Literal['production', 'staging']", instance)
    )
    table.finish()
    return trust


def _conditions(
    top: Table, sigstore: SigstoreTrust, read: Read, environ: Mapping[str, str], folder: str
) -> tuple[Condition, ...]:
    conditions: list[Condition] = []
    if "bans" in top:
        from wcp_attest.trust.bans.bans_table import PolicyInputs, parse_bans_table

        inputs = PolicyInputs(folder, environ, read, lambda table: _signer(table, read, environ), sigstore)
        conditions.append(parse_bans_table(top.table("bans"), inputs))
    if "registry" in top:
        from wcp_attest.trust.registry.registry_table import parse_registry_table

        conditions.append(parse_registry_table(top.table("registry"), folder))
    if "provenance" in top:
        from wcp_attest.trust.archive_provenance import parse_provenance_table

        table = top.table("provenance")
        conditions.append(parse_provenance_table(table, lambda signer: _signer(signer, read, environ), sigstore))
    return tuple(conditions)
