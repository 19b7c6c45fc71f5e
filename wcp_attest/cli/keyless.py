"""Sigstore on the command line: the options to sign keyless, the options to trust it, and what they mean."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.options import AliasedOption, combine

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.cli.options import SignerFlags, TrustFlags
    from wcp_attest.disk.overwrite import OutputKind
    from wcp_attest.signing import SigstoreTrust
    from wcp_attest.signing.sigstore.keyless_signer import SigstoreSigner
    from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity

TOKEN_VARIABLE = "SIGSTORE_ID_TOKEN"  # as GitLab CI and cosign call it  # noqa: S105
DEFAULT_TIMEOUT = 60  # seconds; wcp_attest.signing.sigstore.keyless_signer.DEADLINE, which is slow to import

_ONLY_KEYLESS = ("identity_token", "browser", "trust_config", "staging", "timeout", "bundle_out")


def signing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options to sign with Sigstore, whose values `SignerFlags` takes."""
    decorated: Callable[..., Any] = combine(
        click.option(
            "--sigstore",
            is_flag=True,
            help="Sign keyless, as this CI job or as you; the identity is published in a public log for good.",
        ),
        click.option(
            "--identity-token",
            metavar="FILE|-|env",
            help=f"Take the identity token from a file, standard input or {TOKEN_VARIABLE}, instead of the CI system.",
        ),
        click.option("--browser", is_flag=True, help="Log in with a browser, without asking the CI system."),
        click.option(
            "--trust-config", type=click.Path(), metavar="FILE", help="Use a private Sigstore instance (JSON)."
        ),
        click.option("--staging", is_flag=True, help="Use Sigstore's public staging instance."),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help=f"How long signing with Sigstore may take; by default {DEFAULT_TIMEOUT}.",
        ),
        click.option(
            "--bundle-out",
            "--bundle",
            "bundle_out",
            cls=AliasedOption,
            type=click.Path(),
            metavar="FILE",
            help="Write the Sigstore bundle alone, too, as a release asset: NAME.sigstore.json.",
        ),
    )(command)
    return decorated


def trusting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options to trust keyless signers, whose values `TrustFlags` takes."""
    decorated: Callable[..., Any] = combine(
        click.option(
            "--identity",
            "--certificate-identity",
            "--cert-identity",
            "identity",
            cls=AliasedOption,
            metavar="SAN",
            help="Trust this keyless signer, exactly; needs --issuer.",
        ),
        click.option(
            "--issuer",
            "--certificate-oidc-issuer",
            "--cert-oidc-issuer",
            "issuer",
            cls=AliasedOption,
            metavar="URL",
            help="The OIDC issuer of a keyless signer, exactly.",
        ),
        click.option(
            "--github-repository",
            "--repository",
            "--repo",
            "github_repository",
            cls=AliasedOption,
            metavar="OWNER/NAME",
            help="Trust the GitHub Actions of this repository; narrow it with --workflow and --ref.",
        ),
        click.option(
            "--workflow",
            "--signer-workflow",
            "workflow",
            cls=AliasedOption,
            metavar="PATH",
            help="The workflow that must have signed: .github/workflows/release.yml.",
        ),
        click.option("--ref", metavar="REF", help="The Git ref that must have been built; refs/tags/* for any tag."),
        click.option(
            "--trusted-root",
            type=click.Path(),
            metavar="FILE",
            help="Pin what keyless verification rests on (JSON); then no network and no cache is used.",
        ),
        click.option("--require-timestamp", is_flag=True, help="Demand a signed timestamp of keyless signatures."),
        click.option("--staging", is_flag=True, help="Verify by the root of Sigstore's public staging instance."),
    )(command)
    return decorated


def keyless_signer(flags: SignerFlags) -> SigstoreSigner | None:
    """Return the signer that the flags ask for, None when they ask for none.

    Raises:
        ConfigError: a file cannot be read or used.
        UsageError: a flag belongs to `--sigstore`, which is not given, or flags contradict each other.
    """
    if not flags.sigstore:
        stray = next((name for name in _ONLY_KEYLESS if getattr(flags, name)), None)
        if stray is not None:
            raise click.UsageError(f"--{stray.replace('_', '-')} belongs to --sigstore, which is not given")
        return None
    if flags.trust_config is not None and flags.staging:
        raise click.UsageError("--trust-config and --staging name two different instances")
    if flags.identity_token is not None and flags.browser:
        raise click.UsageError("--identity-token and --browser name two different identities")
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.signing.sigstore.keyless_signer import MAX_CONFIG_BYTES, SigstoreSigner

    config = None
    if flags.trust_config is not None:
        config = read_bounded(flags.trust_config, limit=MAX_CONFIG_BYTES, what="the trust config", follow=True)
    return SigstoreSigner(
        config=config,
        instance="staging" if flags.staging else "production",
        token=None if flags.identity_token is None else _token(flags.identity_token),
        ambient=not flags.browser,
        browser=flags.browser or _somebody_is_there(),
        deadline=flags.timeout or DEFAULT_TIMEOUT,
    )


def identities_of(flags: TrustFlags) -> tuple[SigstoreIdentity, ...]:
    """Return the keyless signers that the flags trust: one or none.

    Raises:
        ConfigError: an identity is malformed.
        UsageError: flags are missing or contradict each other.
    """
    if flags.identity is None and flags.github_repository is None:
        for name in ("issuer", "workflow", "ref"):
            if getattr(flags, name) is not None:
                raise click.UsageError(f"--{name} narrows --identity or --github-repository; give one of them")
        return ()
    if flags.identity is not None and flags.issuer is None:
        raise click.UsageError("--identity needs --issuer: the same name from another issuer is somebody else")
    from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity, issuer_of

    issuer = flags.issuer
    if issuer is None:
        issuer = issuer_of(flags.github_repository or "")
    if issuer is None:
        raise click.UsageError("--github-repository is elsewhere than on github.com or gitlab.com; give its --issuer")
    return (SigstoreIdentity(issuer, flags.identity, flags.github_repository, flags.workflow, flags.ref),)


def sigstore_trust_of(flags: TrustFlags) -> SigstoreTrust:
    """Return what keyless verification rests on.

    Raises:
        ConfigError: the trusted root cannot be read.
        UsageError: two instances are named.
    """
    from wcp_attest.signing import SigstoreTrust

    if flags.trusted_root is not None and flags.staging:
        raise click.UsageError("--trusted-root and --staging name two different instances")
    root = None
    if flags.trusted_root is not None:
        from wcp_attest.disk.files import read_bounded
        from wcp_attest.signing.sigstore.trusted_root import MAX_TRUSTED_ROOT_BYTES

        root = read_bounded(flags.trusted_root, limit=MAX_TRUSTED_ROOT_BYTES, what="the trusted root", follow=True)
    return SigstoreTrust(
        root, flags.require_timestamp, "staging" if flags.staging else "production", flags.trusted_root or ""
    )


def check_bundle_path(path: str | None, package: str | None = None) -> None:
    """Refuse to put the bundle where it would change the package that it is about, or where it cannot be written.

    Raises:
        ConfigError: the path lies inside the package, or cannot be written: a signature that is in a public log
            cannot be taken back for that.
    """
    if path is None:
        return
    target = os.path.realpath(path)
    if package is not None and os.path.commonpath([target, root := os.path.realpath(package)]) == root:
        raise ConfigError(f"--bundle-out {path!r} is inside the package, where it would be an unlisted file")
    folder = os.path.dirname(target)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"--bundle-out {path!r} cannot be written: there is no folder to write it in; nothing was signed"
        )
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path)):
        raise ConfigError(f"--bundle-out {path!r} is not a regular file; name another place; nothing was signed")
    from wcp_attest.disk.overwrite import check_place

    check_place(os.path.abspath(path), _bundle_kind())


def write_bundle(path: str, lines: tuple[bytes, ...]) -> None:
    """Write the keyless one of these lines as a file of its own.

    Raises:
        ConfigError: the file cannot be written.
    """
    from wcp_attest.disk.overwrite import write_file
    from wcp_attest.package.signature_file import parse_line

    keyless = next(line for line in lines if parse_line(line).kind == "sigstore")
    write_file(os.path.abspath(path), keyless + b"\n", _bundle_kind())


def _bundle_kind() -> OutputKind:
    from wcp_attest.disk.overwrite import OutputKind
    from wcp_attest.package.ours import is_signature_file
    from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES

    return OutputKind("an earlier bundle of a package", is_signature_file, MAX_SIGNATURE_FILE_BYTES + 1)


def _token(source: str) -> bytes:
    """Return the identity token; it is a secret, so it never stands on the command line itself."""
    from wcp_attest.signing.sigstore.keyless_signer import MAX_TOKEN_BYTES

    if source == "env":
        text = os.environ.get(TOKEN_VARIABLE)
        if text is None:
            raise ConfigError(f"the environment variable {TOKEN_VARIABLE} is not set, where --identity-token looks")
        return os.fsencode(text)
    if source == "-":
        return b"" if sys.stdin is None else sys.stdin.buffer.read(MAX_TOKEN_BYTES + 1)
    from wcp_attest.disk.files import read_bounded

    return read_bounded(source, limit=MAX_TOKEN_BYTES, what="the identity token", follow=True, pipe=True)


def _somebody_is_there() -> bool:
    """Tell whether a person can be asked to log in; in a CI job nobody would ever answer."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr is not None and sys.stderr.isatty()
