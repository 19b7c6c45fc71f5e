"""`verify --attest-verdict KEY`: a pass as a file of signed statements for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.options import combine, require_outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.signing import Signer
    from wcp_attest.trust.policy import Policy
    from wcp_attest.verdict import Verified
    from wcp_attest.verdict_statements import VerdictNames

SUFFIX = ".verdict.jsonl"


class VerdictFlags(NamedTuple):
    """What the command line says of the statements, as it was given."""

    attest_verdict: str | None = None
    verdict_out: str | None = None
    verdict_passphrase_file: str | None = None
    verifier_id: str | None = None
    resource_uri: str | None = None


def verdict_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options whose values `VerdictFlags` takes."""
    decorated: Callable[..., Any] = combine(
        click.option(
            "--attest-verdict",
            metavar="KEY|URI",
            type=click.Path(),
            help="After a pass, sign an in-toto SVR and a SLSA VSA about the manifest with this private key.",
        ),
        click.option(
            "--verdict-out", metavar="FILE", type=click.Path(), help=f"Where they go; by default ROOT{SUFFIX}."
        ),
        click.option(
            "--verdict-passphrase-file", metavar="FILE", type=click.Path(), help="The passphrase of that key."
        ),
        click.option("--verifier-id", metavar="URI", help="What the statements call this verifier."),
        click.option("--resource-uri", metavar="URI", help="From where consumers fetch the package."),
    )(command)
    return decorated


class VerdictFile:
    """The file that a pass becomes, checked before anything is verified.

    Args:
        flags: the options.
        package: the package, a directory or an archive.

    Raises:
        ConfigError: the key cannot be used, the file may not be written, or one of them is inside the package.
        UsageError: an option needs `--attest-verdict`, which is missing.
    """

    def __init__(self, flags: VerdictFlags, package: str) -> None:
        self.path: str | None = None
        self._signers: tuple[Signer, ...] = ()
        self._names: VerdictNames | None = None
        if flags.attest_verdict is None:
            for name, value in flags._asdict().items():
                if value is not None:
                    raise click.UsageError(
                        f"--{name.replace('_', '-')} belongs to --attest-verdict KEY, which is missing"
                    )
            return
        from wcp_attest.cli.signers import SignerFlags, is_file, signers_of
        from wcp_attest.disk.overwrite import check_place
        from wcp_attest.verdict_statements import VERIFIER_ID, VerdictNames

        self.path = flags.verdict_out or package.rstrip("/") + SUFFIX
        require_outside(package, [self.path], "where writing it would change the package; name another place")
        if is_file(flags.attest_verdict):
            require_outside(package, [flags.attest_verdict], "where it would be shipped with it; keep keys elsewhere")
        check_place(self.path, _kind())
        self._names = VerdictNames(flags.verifier_id or VERIFIER_ID, flags.resource_uri)
        self._signers = signers_of(
            SignerFlags(key=(flags.attest_verdict,), passphrase_file=flags.verdict_passphrase_file)
        )

    def write(self, verified: Verified, policy: Policy) -> str | None:
        """Sign and write the statements, where they were asked for.

        Returns:
            The path of the file, or None.

        Raises:
            ConfigError: the file cannot be written; what stood there stands there still.
            SigningError: a signature could not be made.
        """
        if self.path is None:
            return None
        from wcp_attest.disk.overwrite import write_file
        from wcp_attest.verdict_statements import verdict_lines

        lines = verdict_lines(verified, policy, self._signers, names=self._names)
        write_file(self.path, b"".join(line + b"\n" for line in lines), _kind(), error=ConfigError)
        return self.path


def _kind() -> Any:
    from wcp_attest.disk.overwrite import OutputKind
    from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES
    from wcp_attest.verdict_statements import is_verdict_file

    return OutputKind("a verdict file of wcp-attest", is_verdict_file, limit=MAX_SIGNATURE_FILE_BYTES)
