"""Second step of the action: sign or verify, under the virtual environment that the first step made."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

if __name__ == "__main__":
    # Isolated Python puts no folder of ours on its path. Ours comes last: what is installed comes first.
    sys.dont_write_bytecode = True
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from action.commands import (
    Outcome,
    forget_key,
    is_key_text,
    require_secret_in_policy,
    run,
    sign_options,
    submit_options,
    verify_command,
    verify_options,
)
from action.inputs import InputError, Inputs
from action.packages import find_packages, refuse_inside
from action.workflow import append_summary, mask, plain, say, set_output

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ONE_PACKAGE_ONLY = ("worker_id", "species_id", "worker_version", "attestation")
_TRUSTED_FILES = ("policy", "trusted_root", "trust_config", "bans", "public_key")


def main(environ: Mapping[str, str]) -> int:
    """Do what the inputs say and return the exit status of the step."""
    if not environ.get("RUNNER_TEMP"):
        say("error", "this runner names no folder in RUNNER_TEMP; set it to an empty one")
        return 2
    try:
        inputs = Inputs.read(environ)
        for secret in inputs.secrets:
            mask(secret)
        packages = find_packages(inputs.lines("path"), os.getcwd())
        _check_packages(inputs, packages)
        home = tempfile.mkdtemp(prefix="wcp-attest-result-", dir=environ["RUNNER_TEMP"])
        try:
            return _sign(inputs, packages, home, environ) if inputs.mode == "sign" else _verify(inputs, packages, home)
        finally:
            forget_key(home)
    except InputError as error:
        say("error", str(error))
    except OSError as problem:  # a folder or file of the runner: RUNNER_TEMP, GITHUB_OUTPUT, GITHUB_STEP_SUMMARY
        say("error", f"this runner has no place for the result: {problem}")
    return 2


def _check_packages(inputs: Inputs, packages: Sequence[str]) -> None:
    for name in _ONE_PACKAGE_ONLY:
        if getattr(inputs, name) and len(packages) > 1:
            raise InputError(
                f"input `{name.replace('_', '-')}` is for one package, and `path` means {len(packages)}; "
                "configure each in wcp-attest.toml, or use the action once for each"
            )
    for name in _TRUSTED_FILES:
        file = getattr(inputs, name)
        if file and not (name == "public_key" and is_key_text(file)):
            refuse_inside(name.replace("_", "-"), file, list(packages), os.getcwd())


def _sign(inputs: Inputs, packages: Sequence[str], home: str, environ: Mapping[str, str]) -> int:
    from action.token_cause import missing_token_cause

    cause = missing_token_cause(environ) if inputs.signs_keyless else None
    if cause is not None:
        say("warning" if inputs.skips_without_token else "error", f"not signed: {cause}")
        return 0 if inputs.skips_without_token else 2
    outcomes = []
    for number, package in enumerate(packages):
        bundle = _bundle_path(home, package, number) if inputs.signs_keyless else ""
        outcomes.append(run(inputs, sign_options(inputs, package, home, bundle), package=package, bundle=bundle))
        _tell(outcomes[-1])
    told = _submit(inputs, outcomes, home)
    _keep(inputs, outcomes, home)
    bundles = [outcome.bundle for outcome in outcomes if outcome.ok and outcome.bundle]
    set_output("bundle-path", "\n".join(bundles))
    _announce(bundles, environ)
    return max(told, _status(outcomes))


def _submit(inputs: Inputs, outcomes: Sequence[Outcome], home: str) -> int:
    """Tell the registry of every signed package, when one is named; return the worst status."""
    worst = 0
    for outcome in outcomes if inputs.registry_url else ():
        if not outcome.ok:
            continue
        package = outcome.package
        told = run(inputs, submit_options(inputs, home), package=package, command=("registry", "submit"))
        if told.status == 0 and told.result.get("status") == "active":
            print(plain(f"{package!r}: the registry calls it active"), flush=True)
            continue
        why = told.result.get("message") or f"the registry calls it {told.result.get('status')}, not active"
        say("error", f"{package!r} is signed, and was not published: {why}")
        worst = max(worst, told.status or 1)
    return worst


def _verify(inputs: Inputs, packages: Sequence[str], home: str) -> int:
    from action.results import code_of, is_mistake, to_sarif

    if inputs.policy and inputs.hmac_key:
        require_secret_in_policy(inputs)
    outcomes = []
    for package in packages:
        outcomes.append(run(inputs, verify_options(inputs, home), package=package))
        _tell(outcomes[-1])
    _keep(inputs, outcomes, home)
    sarif = os.path.join(home, "wcp-attest.sarif")
    _write(sarif, to_sarif(outcomes))
    set_output("sarif-path", sarif)
    denied = [outcome for outcome in outcomes if not outcome.ok]
    set_output("verified", "false" if denied else "true")
    set_output("deny-code", code_of(denied[0].result).value if denied and not is_mistake(denied[0]) else "")
    status = _status(outcomes)
    return 0 if status == 1 and inputs.fail_on_deny == "false" else status


def _status(outcomes: Sequence[Outcome]) -> int:
    """Return the worst status; one that succeeded without saying so counts as undecided."""
    return max(0 if outcome.ok else outcome.status or 2 for outcome in outcomes)


def _tell(outcome: Outcome) -> None:
    """Say in the log what became of a package."""
    from action.results import difference_lines, text

    result = outcome.result
    if outcome.ok:
        print(plain(f"{outcome.package!r}: ok: {text(result, 'trust_statement') or 'signed'}"), flush=True)
    else:  # the annotation says why, in the log as well
        print(plain(f"{outcome.package!r}: failed {text(result, 'code')}".rstrip()), flush=True)
    for line in difference_lines(result):
        print(plain(f"  {line}"), flush=True)
    if outcome.talk:
        print(plain(outcome.talk), flush=True)


def _keep(inputs: Inputs, outcomes: Sequence[Outcome], home: str) -> None:
    """Write what every mode leaves behind: annotations, the JSON file, the summary, the outputs."""
    from action.results import annotation_lines, text, to_json
    from action.summary import render
    from wcp_attest.cli.text import one_line
    from wcp_attest.disk.placement import find_place

    for line in annotation_lines(outcomes):
        print(line, flush=True)
    result = os.path.join(home, "result.json")
    _write(result, to_json(inputs.mode, outcomes))
    if inputs.summary == "true":
        append_summary(render(inputs.mode, outcomes, [verify_command(inputs, outcome) for outcome in outcomes]))
    done = [outcome for outcome in outcomes if outcome.ok]
    hashes = [(text(o.result, "package", "hash_algorithm"), text(o.result, "package", "package_hash")) for o in done]
    set_output("result-path", result)
    places = [find_place(outcome.package, inputs.attestation or None) for outcome in done]
    # A name with a line break must not add a line that names another file.
    set_output("manifest-path", "\n".join(one_line(os.path.normpath(place.manifest)) for place in places))
    set_output("signature-path", "\n".join(one_line(os.path.normpath(place.signatures)) for place in places))
    set_output("package-hash", "\n".join(f"{algorithm}:{digest}" for algorithm, digest in hashes))


def _bundle_path(home: str, package: str, number: int) -> str:
    """Return where a bundle goes: named for its package, beside nobody else's, outside the package."""
    name = os.path.basename(os.path.realpath(package))
    name = "".join(character if character.isalnum() or character in "._-" else "_" for character in name)
    folder = os.path.join(home, f"bundle-{number}")
    os.mkdir(folder)
    return os.path.join(folder, f"{name.lstrip('.-') or 'package'}.sigstore.json")


def _announce(bundles: Sequence[str], environ: Mapping[str, str]) -> None:
    """Tell other actions of the job about the bundles, where those look for attestations."""
    with open(os.path.join(environ["RUNNER_TEMP"], "created_attestation_paths.txt"), "a", encoding="utf-8") as file:
        file.writelines(f"{bundle}\n" for bundle in bundles)


def _write(path: str, content: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(content)


if __name__ == "__main__":
    sys.exit(main(os.environ))
