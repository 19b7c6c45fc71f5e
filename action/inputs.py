"""The inputs of the action: read from the environment, checked before anything is done with them.

The runner does not check `required`, hands booleans over as text, and knows no choices. A wrong or contradictory input,
and one that would have no effect, is an error here, because somebody relies on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX: Final = "WCP_INPUT_"
MAX_LENGTH: Final = 64 * 1024  # characters of one input; a private key has three thousand
MAX_LINES: Final = 1000

_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "mode": ("sign", "verify"),
    "signing": ("", "sigstore", "key", "hmac"),
    "placement": ("", "beside", "folder", "detached"),
    "on_missing_token": ("fail", "skip"),
    "fail_on_deny": ("true", "false"),
    "summary": ("true", "false"),
}
_LISTS: Final = ("path", "exclude")
_TEXTS: Final = ("signing_key", "signing_key_passphrase", "hmac_key", "public_key", "registry_token")
_SECRETS: Final = ("signing_key", "signing_key_passphrase", "hmac_key", "registry_token")
_FOR_SIGN: Final = (
    *("worker_version", "exclude", "signing", "signing_key", "signing_key_passphrase", "trust_config"),
    *("on_missing_token", "placement", "registry_url", "registry_token", "registry_ca_file"),
)
_FOR_VERIFY: Final = (
    *("policy", "policy_sha256", "namespace", "identity", "issuer", "github_repository", "github_workflow"),
    *("github_ref", "public_key", "trusted_root", "bans", "fail_on_deny"),
)
# An input that is left out arrives as its default, so only another value tells that somebody set it.
_DEFAULTS: Final[Mapping[str, str]] = {"on_missing_token": "fail", "fail_on_deny": "true"}
_FOR_METHOD: Final[Mapping[str, str]] = {
    "signing_key_passphrase": "key",
    "trust_config": "sigstore",
    "on_missing_token": "sigstore",
}
_NARROWS: Final[Mapping[str, tuple[str, ...]]] = {
    "issuer": ("identity", "github_repository"),
    "github_workflow": ("github_repository",),
    "github_ref": ("github_repository",),
    "trusted_root": ("identity", "github_repository"),
}
_NEEDED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "sigstore": (),
    "key": ("signing_key",),
    "hmac": ("hmac_key",),
}


# Options and variables of the command line, and the inputs that stand for them.
_INPUTS_OF: Final[Mapping[str, str]] = {
    **{f"--{name}": name for name in ("worker-id", "species-id", "worker-version", "exclude", "trust-config")},
    **{f"--{name}": name for name in ("policy", "policy-sha256", "namespace", "identity", "issuer", "placement")},
    **{f"--{name}": name for name in ("github-repository", "public-key", "trusted-root", "bans", "attestation")},
    "--registry-url": "registry-url",
    "--token-file": "registry-token",
    "--ca-file": "registry-ca-file",
    "--workflow": "github-workflow",
    "--ref": "github-ref",
    "--key": "signing-key",
    "--passphrase-file": "signing-key-passphrase",
    "--hmac": "hmac-key",
    "--hmac-file": "hmac-key",
    "--sigstore": "signing",
    "--repository": "github-repository",
    "WCP_ATTEST_KEY_PASSPHRASE": "signing-key-passphrase",
    "WCP_ATTEST_HMAC_KEY": "hmac-key",
}
_OPTION: Final = re.compile(r"(?<![\w-])(--[a-z][a-z0-9-]*|WCP_ATTEST_[A-Z_]+)(?![\w-])(?: FILE)?")


def in_input_names(message: str) -> str:
    """Return a message of the command line with the names of inputs in place of those of options."""
    message = message.replace("the HMAC secret", "the secret in input `hmac-key`")
    return _OPTION.sub(lambda found: f"`{_INPUTS_OF[found[1]]}`" if found[1] in _INPUTS_OF else found[0], message)


class InputError(Exception):
    """An input is missing, malformed or contradicts another."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the workflow says; empty where it says nothing. Names are those of `action.yml` with `_` for `-`."""

    mode: str
    path: str
    worker_id: str
    species_id: str
    worker_version: str
    exclude: str
    signing: str
    signing_key: str
    signing_key_passphrase: str
    hmac_key: str
    on_missing_token: str
    trust_config: str
    placement: str
    attestation: str
    registry_url: str
    registry_token: str
    registry_ca_file: str
    policy: str
    policy_sha256: str
    namespace: str
    identity: str
    issuer: str
    github_repository: str
    github_workflow: str
    github_ref: str
    public_key: str
    trusted_root: str
    bans: str
    fail_on_deny: str
    summary: str

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Inputs:
        """Read and check the inputs.

        Args:
            environ: the environment of the step.

        Raises:
            InputError: one is missing, malformed or contradicts another.
        """
        values = {field.name: _value(environ, field.name) for field in fields(cls)}
        inputs = cls(**values)
        inputs._check_choices()
        inputs._check_mode()
        return inputs

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        return tuple(value for name in _SECRETS if (value := getattr(self, name)))

    @property
    def signs_keyless(self) -> bool:
        """Whether an identity token is needed."""
        return self.mode == "sign" and self.signing in ("", "sigstore")

    @property
    def skips_without_token(self) -> bool:
        """Whether a job that can get no identity token goes on unsigned."""
        return self.on_missing_token == "skip"  # noqa: S105  # no password: what to do without an identity token

    def lines(self, name: str) -> tuple[str, ...]:
        """Return the lines of a list input, without empty ones.

        Raises:
            InputError: there are too many, or one looks like an option.
        """
        lines = tuple(line.strip("\r") for line in str(getattr(self, name)).split("\n") if line.strip())
        if len(lines) > MAX_LINES:
            raise InputError(f"input `{_shown(name)}` has more than {MAX_LINES} lines")
        for line in lines:
            _refuse_option(name, line)
        return lines

    def _check_choices(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                wanted = ", ".join(f"`{choice}`" for choice in choices if choice)
                raise InputError(f"input `{_shown(name)}` is {getattr(self, name)[:80]!r}; it must be one of {wanted}")
        for name in _LISTS:
            self.lines(name)

    def _check_mode(self) -> None:
        other = "verify" if self.mode == "sign" else "sign"
        for name in _FOR_VERIFY if self.mode == "sign" else _FOR_SIGN:
            if getattr(self, name) not in {"", _DEFAULTS.get(name)}:
                raise InputError(f"input `{_shown(name)}` belongs to mode `{other}` and would have no effect here")
        if self.mode == "verify":
            self._check_trust()
            return
        if bool(self.attestation) != (self.placement == "detached"):
            raise InputError("`placement: detached` and `attestation` go together: the files need a directory")
        for name in ("registry_token", "registry_ca_file"):
            if getattr(self, name) and not self.registry_url:
                raise InputError(f"input `{_shown(name)}` has no effect without `registry-url`")
        if self.registry_url and self.attestation:
            raise InputError(
                "`registry-url` and `attestation` exclude each other: a registry gets the package's own pair"
            )
        method = self.signing or "sigstore"
        for name in ("signing_key", "hmac_key"):
            needed = name in _NEEDED_BY[method]
            if needed != bool(getattr(self, name)):
                verb = "needs" if needed else "excludes"
                raise InputError(f"`signing: {method}` {verb} the input `{_shown(name)}`")
        for name, only in _FOR_METHOD.items():
            if method != only and getattr(self, name) not in {"", _DEFAULTS.get(name)}:
                raise InputError(f"input `{_shown(name)}` belongs to `signing: {only}` and would have no effect here")

    def _check_trust(self) -> None:
        named = ("policy", "identity", "github_repository", "public_key", "hmac_key")
        if not any(getattr(self, name) for name in named):
            shown = ", ".join(f"`{_shown(name)}`" for name in named)
            raise InputError(f"nobody is trusted: mode `verify` needs one of {shown}")
        if self.policy:
            # The secret is not excluded: a policy may name it by its variable, and the workflow alone has its value.
            for name in (*named[1:-1], "issuer", "github_workflow", "github_ref", "trusted_root"):
                if getattr(self, name):
                    raise InputError(f"`policy` and `{_shown(name)}` exclude each other; put it into the policy")
            return
        if self.policy_sha256:
            raise InputError("input `policy-sha256` pins a `policy`, which is not given")
        if self.identity and self.github_repository:
            raise InputError("`identity` and `github-repository` name two signers; use a `policy` for several")
        if self.identity and not self.issuer:
            raise InputError("`identity` and `issuer` go together: an identity means nothing without its issuer")
        for name, needed_names in _NARROWS.items():
            if getattr(self, name) and not any(getattr(self, needed) for needed in needed_names):
                shown = " or ".join(f"`{_shown(needed)}`" for needed in needed_names)
                raise InputError(f"input `{_shown(name)}` has no effect without {shown}")
        if not self.namespace and not self.worker_id:
            raise InputError("a signer is trusted for one namespace: give `worker-id` or `namespace`, or a `policy`")


def _shown(name: str) -> str:
    return name.replace("_", "-")


def _value(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(PREFIX + name.upper(), "")
    if len(value) > MAX_LENGTH:
        raise InputError(f"input `{_shown(name)}` is longer than {MAX_LENGTH} characters")
    if name in _TEXTS or name in _LISTS:
        return value
    value = value.strip()
    if not value.isprintable():
        raise InputError(f"input `{_shown(name)}` holds a line break or control character")
    _refuse_option(name, value)
    return value


def _refuse_option(name: str, value: str) -> None:
    if value.startswith("-"):
        said = "`\\-…` for a pattern" if name == "exclude" else "`./-…` for a name"
        raise InputError(f"input `{_shown(name)}` is {value[:80]!r}, which looks like an option; write {said}")
