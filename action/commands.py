"""Command lines of `wcp-attest` for the inputs, and the run of one.

Inputs become single arguments of options, never text that anything parses again; secrets go by environment or by files
that only we can read.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, cast

from action.inputs import InputError, Inputs, in_input_names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.disk.placement import PairPlace

DEADLINE: Final = 6 * 3600.0  # seconds; the longest that a hosted job may take
MANIFEST_NAME: Final = "manifest.json"
SIGNATURE_NAME: Final = "manifest.sig"
SIGNING_KEY_NAME: Final = "wcp-attest-signing.key"
REGISTRY_TOKEN_NAME: Final = "wcp-attest-registry.token"  # noqa: S105  # the name of a file
HMAC_VARIABLE: Final = "WCP_ATTEST_HMAC_KEY"
PUBLIC_KEY_NAME: Final = "wcp-attest-public.key"
_TOKEN_VARIABLES: Final = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one command.

    Attributes:
        package: the directory it was about.
        status: its exit status: 0 done, 1 refused, 2 undecided.
        result: the JSON object that it printed.
        talk: its standard error.
        bundle: where the Sigstore bundle was written, empty when none was asked for.
    """

    package: str
    status: int
    result: Mapping[str, object]
    talk: str
    bundle: str = ""

    @property
    def ok(self) -> bool:
        """Whether the command did what it was asked for."""
        return self.status == 0 and self.result.get("ok") is True


def sign_options(inputs: Inputs, package: str, home: str, bundle: str) -> list[str]:
    """Return the options that sign a package.

    A manifest that stands there, as the hooks keep it, is signed as it was reviewed; only one that is built here says
    where it was built.

    Args:
        inputs: checked.
        package: its directory.
        home: a directory that only we can read.
        bundle: where a Sigstore bundle goes.
    """
    words: list[str] = []
    if inputs.signs_keyless:
        words += ["--sigstore", f"--bundle-out={bundle}"]
        words += _option("--trust-config", inputs.trust_config)
    elif inputs.signing == "key":
        words.append(f"--key={_private_file(home, SIGNING_KEY_NAME, inputs.signing_key)}")
    else:
        words.append("--hmac")
    words += _option("--placement", inputs.placement) + _option("--attestation", inputs.attestation)
    said = _option("--worker-id", inputs.worker_id)
    said += _option("--species-id", inputs.species_id)
    said += _option("--worker-version", inputs.worker_version)
    said += [f"--exclude={pattern}" for pattern in inputs.lines("exclude")]
    if said or not os.path.lexists(pair_place(inputs, package).manifest):
        said += _source_options(os.environ)
    return words + said


def pair_place(inputs: Inputs, package: str) -> PairPlace:
    """Return where the two files of a package lie or will lie.

    Raises:
        InputError: there is no place where they may.
    """
    from wcp_attest.base.errors import Error
    from wcp_attest.build import output_place

    try:
        chosen = cast("Literal['beside', 'folder', 'detached'] | None", inputs.placement or None)
        return output_place(package, chosen, inputs.attestation or None)
    except Error as problem:
        raise InputError(in_input_names(str(problem))) from None


def _source_options(environ: Mapping[str, str]) -> list[str]:
    """Return the options that record where the code comes from."""
    words = ["--build-source=ci"]
    server, repository = environ.get("GITHUB_SERVER_URL", ""), environ.get("GITHUB_REPOSITORY", "")
    if server and repository:
        words.append(f"--source-repository={server}/{repository}")
    return words + _option("--source-commit", environ.get("GITHUB_SHA", ""))


def verify_options(inputs: Inputs, home: str) -> list[str]:
    """Return the options that verify a package.

    Args:
        inputs: checked.
        home: a directory that only we can read.
    """
    words: list[str] = []
    for option, value in (
        ("--policy", inputs.policy),
        ("--policy-sha256", inputs.policy_sha256),
        ("--namespace", inputs.namespace),
        ("--worker-id", inputs.worker_id),
        ("--species-id", inputs.species_id),
        ("--identity", inputs.identity),
        ("--issuer", inputs.issuer),
        ("--repository", inputs.github_repository),
        ("--workflow", inputs.github_workflow),
        ("--ref", inputs.github_ref),
        ("--attestation", inputs.attestation),
        ("--trusted-root", inputs.trusted_root),
        ("--bans", inputs.bans),
    ):
        words += _option(option, value)
    if inputs.public_key:
        words.append(f"--public-key={public_key_file(inputs, home)}")
    if inputs.hmac_key and not inputs.policy:
        words.append("--hmac")
    return words


def verify_command(inputs: Inputs, outcome: Outcome) -> str:
    """Return a command that verifies the package as it stands, for a shell; it names no file that is gone by then.

    A public key is written out in it (`<(echo …)`, in bash and zsh), and a shared secret is left to the environment.

    Args:
        inputs: checked.
        outcome: of the package.
    """
    words = ["wcp-attest", "verify"]
    key = ""
    if inputs.mode == "verify":
        shown = replace(inputs, public_key="") if is_key_text(inputs.public_key) else inputs
        key = inputs.public_key if shown is not inputs else ""
        words += verify_options(shown, "")
    elif outcome.ok and inputs.signs_keyless:
        return str(outcome.result.get("verify_command", ""))
    elif outcome.ok:
        package = outcome.result.get("package")
        worker = package.get("worker_id") if isinstance(package, dict) else ""
        words += [f"--worker-id={worker}", *_option("--attestation", inputs.attestation)]
        if inputs.signing == "hmac":
            words.append("--hmac")
        else:
            from wcp_attest.signing.key import KeySigner
            from wcp_attest.signing.secret_text import secret_line

            passphrase = secret_line(inputs.signing_key_passphrase.encode(), "the passphrase")
            key = KeySigner.from_file_bytes(inputs.signing_key.encode(), passphrase or None).public_pem().decode()
    else:
        return ""
    written = f" --public-key <(echo {shlex.quote(' '.join(key.split()))})" if key else ""
    return f"{shlex.join(words)}{written} -- {shlex.quote(outcome.package)}"


def is_key_text(public_key: str) -> bool:
    """Tell whether the input holds a public key itself, and not the name of a file."""
    return "\n" in public_key.strip() or public_key.lstrip().startswith(("-----BEGIN ", "ssh-", "ecdsa-"))


def public_key_file(inputs: Inputs, home: str) -> str:
    """Return the path of the public key; text is written to a file first.

    Raises:
        InputError: it is neither a key nor a name.
    """
    text = inputs.public_key.strip()
    if is_key_text(text):
        return _private_file(home, PUBLIC_KEY_NAME, text + "\n")
    if text.startswith("-") or not text.isprintable():
        raise InputError("input `public-key` is neither a public key nor the name of a file")
    return text


def submit_options(inputs: Inputs, home: str) -> list[str]:
    """Return the options that tell a registry of a signed package, with its manifest and signatures.

    Args:
        inputs: checked.
        home: a directory that only we can read.
    """
    words = _option("--registry-url", inputs.registry_url) + _option("--ca-file", inputs.registry_ca_file)
    if inputs.registry_token:
        words.append(f"--token-file={_private_file(home, REGISTRY_TOKEN_NAME, inputs.registry_token.strip())}")
    return words


def run(
    inputs: Inputs, options: list[str], *, package: str, bundle: str = "", command: tuple[str, ...] | None = None
) -> Outcome:
    """Run `wcp-attest` in the workspace, isolated from it.

    Args:
        inputs: for the command, and the secrets that it takes from the environment.
        options: of the command.
        package: the directory it is about.
        bundle: where it was told to write a bundle.
        command: which one; by default the mode and the options for a terminal.
    """
    words = command or (inputs.mode, "--no-progress")
    done = subprocess.run(
        [sys.executable, "-I", "-m", "wcp_attest", *words, *options, "--format=json", "--color=never", "--", package],
        env=_environment(inputs),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE,
        check=False,
    )
    talk = done.stderr.decode("utf-8", "replace")
    try:
        result = json.loads(done.stdout)
    except ValueError:
        result = None
    if not isinstance(result, dict) or done.returncode not in (0, 1, 2):
        message = f"wcp-attest ended with status {done.returncode} and no result"
        return Outcome(package, 2, {"ok": False, "code": None, "message": message}, talk, bundle)
    if "error" in result:  # a mistake in the workflow, to be read by somebody who knows inputs and no options
        result["message"] = in_input_names(_without_our_files(str(result.get("message")), options))
        talk = ""
    return Outcome(package, done.returncode, result, talk, bundle)


def _without_our_files(message: str, options: list[str]) -> str:
    """Name the input where a message names the file that we wrote its text to."""
    for option in options:
        name, _, path = option.partition("=")
        if os.path.basename(path) in {SIGNING_KEY_NAME, PUBLIC_KEY_NAME}:
            shown = "input `signing-key`" if name == "--key" else "input `public-key`"
            message = message.replace(repr(path), shown).replace(path, shown)
    return message


def require_secret_in_policy(inputs: Inputs) -> None:
    """Refuse a shared secret that the policy does not name: somebody relies on it, and it would have no effect.

    A policy that cannot be read is left to the command, which says why.

    Raises:
        InputError: the policy names no shared secret.
    """
    from wcp_attest.base.errors import Error
    from wcp_attest.trust.policy_file import load_policy

    try:
        policy = load_policy(inputs.policy, {**os.environ, HMAC_VARIABLE: inputs.hmac_key})
    except Error:
        return
    signers = [*policy.keys]
    for condition in policy.conditions:
        signers += getattr(getattr(condition, "signers", None), "keys", ())
    if not any(signer.key_id.startswith("hmac-") for signer in signers):
        raise InputError("input `hmac-key` has no effect: the policy names no shared secret")


def _option(name: str, value: str) -> list[str]:
    return [f"{name}={value}"] if value else []


def _environment(inputs: Inputs) -> dict[str, str]:
    """Return the step's environment without what could change a decision behind the inputs' back."""
    unwanted = ("WCP_", "PYTHON") if inputs.signs_keyless else ("WCP_", "PYTHON", *_TOKEN_VARIABLES)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    if inputs.hmac_key:
        environment[HMAC_VARIABLE] = inputs.hmac_key
    if inputs.signing_key_passphrase:
        environment["WCP_ATTEST_KEY_PASSPHRASE"] = inputs.signing_key_passphrase
    return environment


def forget_key(home: str) -> None:
    """Remove the files of the private key and of the registry's token, if there are any."""
    for name in (SIGNING_KEY_NAME, REGISTRY_TOKEN_NAME):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(home, name))


def _private_file(home: str, name: str, text: str) -> str:
    path = os.path.join(home, name)
    if not os.path.lexists(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text if text.endswith("\n") else text + "\n")
    return path
