"""`wcp-attest verify`: may this package run?"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from wcp_attest.cli import difference_text, verdicts
from wcp_attest.cli.option_groups import GroupedCommand, grouped
from wcp_attest.cli.output import Counter, Output, progress_option, reporting
from wcp_attest.cli.shared_options import (
    archive_options,
    attestation_option,
    jobs_option,
    require_package,
    root_argument,
)
from wcp_attest.cli.trust import TrustFlags, policy_of, trust_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.verdict import Verdict, Verified


@click.command(cls=GroupedCommand)
@root_argument
@attestation_option
@trust_options
@archive_options
@grouped(
    "Copy of what was verified",
    click.option("--stage", metavar="DIR", type=click.Path(), help="Copy it, byte for byte, to a new directory."),
    click.option(
        "--stage-link",
        metavar="NAME",
        type=click.Path(),
        help="Copy it to a new NAME.1, NAME.2, … at every start, and let the link NAME name the copy.",
    ),
)
@grouped(
    "Signed verdict",
    click.option(
        "--attest-verdict",
        metavar="KEY|URI",
        type=click.Path(),
        help="After a pass, sign an in-toto SVR and a SLSA VSA about the manifest with this private key.",
    ),
    click.option(
        "--verdict-out", metavar="FILE", type=click.Path(), help="Where they go; by default ROOT.verdict.jsonl."
    ),
    click.option("--verdict-passphrase-file", metavar="FILE", type=click.Path(), help="The passphrase of that key."),
    click.option("--verifier-id", metavar="URI", help="What the statements call this verifier."),
    click.option("--resource-uri", metavar="URI", help="From where consumers fetch the package."),
)
@jobs_option
@progress_option
@difference_text.option
@reporting("text", "json", "sarif", "github")
def verify(
    out: Output,
    /,
    package: str,
    attestation: str | None,
    provenance: str | None,
    stage: str | None,
    stage_link: str | None,
    max_size: int | None,
    jobs: int | None,
    progress: bool | None,
    every: bool,
    **options: Any,
) -> int:
    """Check the package in ROOT against a trust policy.

    Exit status 0: it is byte for byte what a signer trusted for its namespace released, and nobody banned it. Exit
    status 1: it was checked and is refused; the code says why. Exit status 2: it could not be checked.

    ROOT is one package, so that the exit status is about that one. It may also be a tar, tar.gz or zip archive, which
    is unpacked into a private directory for the check; `wcp-attest unpack` keeps what was verified.

    \b
      wcp-attest verify my-worker --policy policy.toml
      wcp-attest verify my-worker --public-key acme.pub --worker-id org.acme.summarizer
    """
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.verdict import Expectation, judge
    from wcp_attest.verification import attest

    flags = TrustFlags(**{name: options.pop(name) for name in TrustFlags._fields})
    archived = stat.S_ISREG(os.lstat(package).st_mode) if os.path.lexists(package) else False
    if not archived:
        require_package(package, out)
        if provenance is not None:
            raise click.UsageError("--provenance is about an archive, and ROOT is a directory; verify the archive")
    policy = policy_of(flags, out)
    statements = None
    if any(value is not None for value in options.values()):  # those of a signed verdict are left
        from wcp_attest.cli.verdict_out import VerdictFile, VerdictFlags

        statements = VerdictFile(VerdictFlags(**options), package, out)
    with _staging(stage, stage_link) as copy, Counter(progress, quiet=out.quiet) as counter:
        reading = ReadOptions(jobs=jobs, progress=counter.callback)
        expect = Expectation(flags.worker_id, flags.species_id)

        def attempt() -> Verified:
            if not archived:
                return attest(package, policy, expect=expect, stage=copy.path, options=reading, attestation=attestation)
            from wcp_attest.pack import verify_archive

            return verify_archive(
                package,
                policy,
                provenance=provenance,
                expect=expect,
                options=reading,
                max_bytes=max_size,
                stage=copy.path,
                attestation=attestation,
            )

        verdict = judge(attempt)
        if verdict.ok:
            copy.publish()
    if verdict.verified is not None and statements is not None:
        statements.write(verdict.verified, policy)
    _deliver(out, verdict, package, every=every)
    if verdict.ok and copy.path is not None:
        out.note(f"staged what was verified in {copy.path}")
    if verdict.ok and statements is not None:
        out.note(f"signed the verdict in {statements.path}")
    return verdicts.exit_status(verdict)


@dataclass(slots=True)
class _Staging:
    """Where the copy of what was verified goes.

    Attributes:
        path: of the copy; None when none is wanted.
        link: what will name the copy; None for a copy that stays where it was made.
    """

    path: str | None
    link: str | None = None

    def publish(self) -> None:
        """Let the link, where there is one, name the copy."""
        if self.path is not None and self.link is not None:
            from wcp_attest.cli.stage_link import publish

            self.path = publish(self.link, self.path)


@contextmanager
def _staging(stage: str | None, link: str | None) -> Iterator[_Staging]:
    """Choose the place of the copy: a directory, or a private one that a link will name.

    Raises:
        ConfigError: the name of the link cannot be used.
        UsageError: both are given.
    """
    if link is None:
        yield _Staging(stage)
        return
    if stage is not None:
        raise click.UsageError("--stage and --stage-link exclude each other")
    from wcp_attest.cli.stage_link import private_stage

    with private_stage(link) as path:
        yield _Staging(path, link)


def _deliver(out: Output, verdict: Verdict, package: str, *, every: bool) -> None:
    if out.format == "json":
        out.deliver_json("verify-result", verdict.to_dict(package))
    elif out.format == "text":
        out.decide(verdicts.as_text(verdict, package, out.paint, every=every))
    else:
        from wcp_attest.cli.formats import render_report
        from wcp_attest.cli.formats.report import from_verdict

        report = from_verdict(package, verdict, verdicts.exit_status(verdict))
        out.deliver_commands(render_report(report, out.format))
