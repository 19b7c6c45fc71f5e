"""`wcp-attest init`: lay out a new worker package."""

from __future__ import annotations

import shlex

import click

from wcp_attest.cli.output import Output, reporting


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--worker-id", metavar="ID", default="org.example.worker", show_default=True, help="The worker id.")
@click.option("--species-id", metavar="ID", default="wrk.example.worker", show_default=True, help="The species id.")
@click.option("--worker-version", metavar="VERSION", default="0.1.0", show_default=True, help="The version.")
@click.option("--logic", metavar="FILE", type=click.Path(), help="Your own worker_logic.py instead of a stub.")
@click.option("--force", is_flag=True, help="Replace files that are already there; each is kept as NAME.orig.")
@reporting("text", "json")
def init(
    out: Output,
    /,
    directory: str,
    worker_id: str,
    species_id: str,
    worker_version: str,
    logic: str | None,
    force: bool,
) -> None:
    """Lay out a worker package in DIR that runs: bootstrap, logic, lock file and configuration schema."""
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.scaffold import MAX_LOGIC_BYTES, scaffold_package

    code = None if logic is None else read_bounded(logic, limit=MAX_LOGIC_BYTES, what="the logic", follow=True)
    paths = scaffold_package(
        directory, worker_id=worker_id, species_id=species_id, version=worker_version, logic=code, force=force
    )
    ids = ["--worker-id", worker_id, "--species-id", species_id, "--worker-version", worker_version]
    sign = shlex.join(["wcp-attest", "sign", directory, "--key", "my.key", *ids])
    if out.format == "json":
        out.deliver_json("init", {"directory": directory, "files": [*paths], "sign_command": sign})
        return
    out.decide("".join(f"wrote {path}\n" for path in paths))
    out.note(f"next: put the work into code/worker_logic.py, then\n  {sign}")
