"""Options and arguments that several commands share."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.output import Misplaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wcp_attest.cli.output import Output
    from wcp_attest.disk.placement import PairPlace, Placement

root_argument = click.argument("package", metavar="ROOT", type=click.Path())
attestation_option = click.option(
    "--attestation",
    metavar="DIR",
    type=click.Path(),
    help="The directory of manifest.json and manifest.sig, when they lie outside of the package.",
)
provenance_option = click.option(
    "--provenance",
    metavar="FILE",
    type=click.Path(),
    help="The build provenance of an archive, where the policy asks for one; by default it stands beside the archive.",
)
jobs_option = click.option(
    "-j", "--jobs", type=click.IntRange(1, 256), help="Parallel hashing processes (default: automatic)."
)


def placement_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say where `manifest.json` and `manifest.sig` go."""
    decorated: Callable[..., Any] = combine(
        click.option(
            "--placement",
            type=click.Choice(["beside", "folder", "detached"]),
            help="Where the two files go: in ROOT, in ROOT/.wcp/, or in --attestation DIR. By default in ROOT, and in"
            " .wcp/ when another program's file has one of the two names.",
        ),
        attestation_option,
    )(command)
    return decorated


def output_place(package: str, placement: Placement | None, attestation: str | None, out: Output) -> PairPlace:
    """Return where a command writes `manifest.json` and `manifest.sig`, and say so when that is not the root.

    Raises:
        ConfigError: nothing may be written there.
    """
    from wcp_attest.build import output_place as chosen

    place = chosen(package, placement, attestation)
    if placement is None and place.placement == "folder" and not os.path.lexists(place.manifest):
        out.note("the root holds another program's manifest.json or manifest.sig: the pair goes into .wcp/")
    return place


class TrustFlags(NamedTuple):
    """What the command line says of trust, as it was given."""

    policy: str | None = None
    policy_sha256: str | None = None
    public_key: tuple[str, ...] = ()
    hmac: bool = False
    hmac_file: tuple[str, ...] = ()
    identity: str | None = None
    issuer: str | None = None
    github_repository: str | None = None
    workflow: str | None = None
    ref: str | None = None
    trusted_root: str | None = None
    require_timestamp: bool = False
    staging: bool = False
    accept_schema: tuple[Literal["awp.v2", "awp.v1"], ...] = ()
    namespace: str | None = None
    worker_id: str | None = None
    species_id: str | None = None
    bans: tuple[str, ...] = ()

    @property
    def given(self) -> bool:
        """Whether any flag names a signer, what keyless trust rests on, or loosens what is accepted."""
        texts = (self.identity, self.issuer, self.github_repository, self.workflow, self.ref, self.trusted_root)
        named = self.public_key or self.hmac or self.hmac_file or any(text is not None for text in texts)
        return bool(named or self.accept_schema or self.require_timestamp or self.staging)


class SignerFlags(NamedTuple):
    """What the command line says of signers, as it was given."""

    key: tuple[str, ...] = ()
    passphrase_file: str | None = None
    hmac: bool = False
    hmac_file: tuple[str, ...] = ()
    sigstore: bool = False
    identity_token: str | None = None
    browser: bool = False
    trust_config: str | None = None
    staging: bool = False
    timeout: float | None = None
    bundle_out: str | None = None


class AliasedOption(click.Option):
    """An option that is also known by names that other tools have for it; the help shows our own alone.

    Args:
        declarations: our spelling first, then the others, then the name of the parameter.
    """

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the line of the help, with the first spelling only."""
        every = self.opts
        self.opts = every[:1]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = every


def combine(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return one decorator that gives a command all of these options, in this order."""

    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def as_argument(path: str) -> str:
    """Return a path as it may stand in a command line without being taken for an option."""
    return f"./{path}" if path.startswith("-") else path


def require_outside(
    package: str, paths: Iterable[str | None], why: str, *, error: type[ConfigError] = ConfigError
) -> None:
    """Refuse files inside the package that do not belong there.

    Args:
        package: the package directory.
        paths: files that the command line names; None is none.
        why: what would come of it, for the message.
        error: what to raise.

    Raises:
        ConfigError: `error`, when one of them lies inside the package.
    """
    root = os.path.realpath(package)
    for path in paths:
        if path is not None and os.path.commonpath([root, os.path.realpath(path)]) == root:
            raise error(f"{path!r} lies inside the package, {why}")


def require_package(path: str, out: Output) -> None:
    """Check that a package can be read here, is a directory and not a link to one, and that no result goes into it.

    All commands look at the same tree, and writing a result must not change a tree that was just signed or verified.

    Raises:
        ConfigError: it is something else, or is not there, or the result would change it.
    """
    if os.open not in os.supports_dir_fd:
        raise ConfigError("packages are read on Linux and macOS only: this system has no directory descriptors")
    _require_directory(path)
    require_result_outside(path, out)


def require_result_outside(package: str, out: Output) -> None:
    """Refuse to write the result into the package, which that would change.

    Raises:
        ConfigError: it would be written there.
    """
    why = "which writing the result there would change; name another place"
    require_outside(package, [out.file], why, error=Misplaced)


def _require_directory(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError) as error:
        from wcp_attest.disk.directory import describe_os_error

        raise ConfigError(f"cannot open the package directory {path!r}: {describe_os_error(error)}") from None
    if stat.S_ISLNK(mode):
        raise ConfigError(f"{path!r} is a symbolic link; give the package directory itself")
    if not stat.S_ISDIR(mode):
        raise ConfigError(f"{path!r} is not a directory; give the directory that holds the package")
