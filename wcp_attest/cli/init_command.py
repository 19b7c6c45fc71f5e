"""`wcp-attest init`: lay out a new worker package."""

from __future__ import annotations

import shlex

import click

from wcp_attest.cli.option_groups import GroupedCommand, grouped
from wcp_attest.cli.output import Misplaced, Output, reporting
from wcp_attest.cli.shared_options import require_outside

_WORKER_ID, _SPECIES_ID = "org.example.worker", "wrk.example.worker"


@click.command(cls=GroupedCommand)
@click.argument("directory", metavar="DIR", type=click.Path())
@grouped(
    "What to lay out",
    click.option(
        "--kind",
        type=click.Choice(["worker", "skill", "plugin", "mcpb"]),
        default="worker",
        show_default=True,
        help="What to lay out; all but a worker are named after DIR, and take their ids when you sign.",
    ),
    click.option("--worker-id", metavar="ID", default=_WORKER_ID, show_default=True, help="The worker id."),
    click.option("--species-id", metavar="ID", default=_SPECIES_ID, show_default=True, help="The species id."),
    click.option("--worker-version", metavar="VERSION", default="0.1.0", show_default=True, help="The version."),
    click.option("--logic", metavar="FILE", type=click.Path(), help="Your own worker_logic.py instead of a stub."),
    click.option("--force", is_flag=True, help="Replace files that are already there; each is kept as NAME.orig."),
)
@reporting("text", "json", force=False)
def init(
    out: Output,
    /,
    directory: str,
    kind: str,
    worker_id: str,
    species_id: str,
    worker_version: str,
    logic: str | None,
    force: bool,
) -> None:
    """Lay out a package in DIR: a worker that runs, or a small skill, plugin or MCP bundle."""
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.scaffold import MAX_LOGIC_BYTES, scaffold_kind, scaffold_package

    require_outside(directory, [out.file], "which is about to be laid out; name another place", error=Misplaced)
    sign = ["wcp-attest", "sign", directory, "--key", "my.key"]
    if kind == "worker":
        code = None if logic is None else read_bounded(logic, limit=MAX_LOGIC_BYTES, what="the logic", follow=True)
        paths = scaffold_package(
            directory,
            worker_id=worker_id,
            worker_species_id=species_id,
            worker_version=worker_version,
            logic=code,
            force=force,
        )
        sign += ["--worker-id", worker_id, "--species-id", species_id, "--worker-version", worker_version]
    elif logic is not None or (worker_id, species_id) != (_WORKER_ID, _SPECIES_ID):
        raise click.UsageError(
            "--worker-id, --species-id and --logic are for --kind worker; give --namespace to `sign`"
        )
    else:
        paths = scaffold_kind(directory, kind, version=worker_version, force=force)
        sign += ["--namespace", "org.example"]
    command = shlex.join(sign)
    if out.format == "json":
        out.deliver_json("init", {"directory": directory, "files": [*paths], "sign_command": command})
        return
    out.decide("".join(f"wrote {path}\n" for path in paths))
    place = "code/worker_logic.py" if kind == "worker" else paths[-1]
    out.note(f"next: put the work into {place}, then\n  {command}")
