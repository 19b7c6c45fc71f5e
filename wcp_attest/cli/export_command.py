"""`wcp-attest export`: a signed package as another protocol describes it. It verifies nothing."""

from __future__ import annotations

import click

from wcp_attest.base.errors import ConfigError, VerificationError
from wcp_attest.cli.option_groups import CommandGroup
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.shared_options import attestation_option, require_package, root_argument


@click.group(cls=CommandGroup)
def export() -> None:
    """Describe a signed package as another protocol does."""


@export.command("mcp-resources")
@root_argument
@click.option(
    "--skill-path", metavar="PATH", help="Where the server serves the skill: acme/pdf-forms; by default its name."
)
@attestation_option
@reporting("json")
def mcp_resources(out: Output, /, package: str, skill_path: str | None, attestation: str | None) -> None:
    """Print a signed skill as an MCP server names it: `uri`, `resources` and the statements in `_meta`.

    The names are those of the Skills extension (SEP-2640). The server adds the front matter of SKILL.md. This verifies
    nothing; `wcp-attest verify` does.
    """
    from wcp_attest.advice.mcp_resources import skill_entry

    require_package(package, out)
    try:
        entry = skill_entry(package, skill_path=skill_path, attestation=attestation)
    except VerificationError as problem:
        raise ConfigError(f"cannot export {package!r}: {problem}") from None
    out.deliver_json("mcp-resources", entry)
