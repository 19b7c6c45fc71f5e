"""`verify --attest-verdict KEY`: a pass as a file of signed statements for other programs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.output import Misplaced
from wcp_attest.cli.shared_options import require_outside
from wcp_attest.cli.signers import SignerFlags, is_file, signers_of
from wcp_attest.disk.overwrite import OutputKind, check_place, write_file
from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES
from wcp_attest.verdict_statements import VERIFIER_ID, VerdictNames, is_verdict_file, verdict_lines

if TYPE_CHECKING:
    from wcp_attest.cli.output import Output
    from wcp_attest.trust.policy import Policy
    from wcp_attest.verdict import Verified

SUFFIX = ".verdict.jsonl"
_KIND = OutputKind("a verdict file of wcp-attest", is_verdict_file, limit=MAX_SIGNATURE_FILE_BYTES)


class VerdictFlags(NamedTuple):
    """What the command line says of the statements, as it was given."""

    attest_verdict: str | None = None
    verdict_out: str | None = None
    verdict_passphrase_file: str | None = None
    verifier_id: str | None = None
    resource_uri: str | None = None


class VerdictFile:
    """The file that a pass becomes, checked before anything is verified.

    Args:
        flags: the options.
        package: the package, a directory or an archive.
        out: where the result goes, which must be another place.

    Raises:
        ConfigError: the key cannot be used, the file may not be written, or one of them is inside the package.
        UsageError: an option needs `--attest-verdict`, which is missing.
    """

    def __init__(self, flags: VerdictFlags, package: str, out: Output) -> None:
        if flags.attest_verdict is None:
            given = next(name for name, value in flags._asdict().items() if value is not None)
            raise click.UsageError(f"--{given.replace('_', '-')} belongs to --attest-verdict KEY, which is missing")
        self.path = package.rstrip("/") + SUFFIX if flags.verdict_out is None else flags.verdict_out
        require_outside(package, [self.path], "where writing it would change the package; name another place")
        if out.file is not None and os.path.realpath(out.file) == os.path.realpath(self.path):
            raise Misplaced(f"{out.file!r} is where the signed verdict goes; name another place for the result")
        if is_file(flags.attest_verdict):
            require_outside(package, [flags.attest_verdict], "where it would be shipped with it; keep keys elsewhere")
        check_place(self.path, _KIND)
        self._names = VerdictNames(VERIFIER_ID if flags.verifier_id is None else flags.verifier_id, flags.resource_uri)
        self._signers = signers_of(
            SignerFlags(key=(flags.attest_verdict,), passphrase_file=flags.verdict_passphrase_file)
        )

    def write(self, verified: Verified, policy: Policy) -> None:
        """Sign and write the statements.

        Raises:
            ConfigError: the file cannot be written; what stood there stands there still.
            SigningError: a signature could not be made.
        """
        lines = verdict_lines(verified, policy, self._signers, names=self._names)
        write_file(self.path, b"".join(line + b"\n" for line in lines), _KIND, error=ConfigError)
