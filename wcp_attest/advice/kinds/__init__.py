"""What kind of package a directory is, and who it says it is: skills, plugins, MCP bundles, models, Python projects.

    described = describe("pdf-forms")
    described.kind, described.name, described.version          # "skill", "pdf-forms", "1.2.0"
    proposed_ids(described, "org.acme")                         # org.acme.pdf-forms, wrk.skill.pdf-forms

`sign --namespace org.acme` proposes these ids to the signer, who sees them. `verify` never reads them: what a package
says of itself proves nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wcp_attest.advice.kinds import agent_plugin, mcpb, model, python_project, skill
from wcp_attest.advice.kinds.described import Described, Reader
from wcp_attest.base.errors import ConfigError
from wcp_attest.base.identity import check_namespace, id_problem, version_problem

if TYPE_CHECKING:
    from collections.abc import Callable

# The first reader that knows the directory wins: a plugin holds skills, and a skill may hold a Python project.
READERS: Final[dict[str, Callable[[Reader], Described | None]]] = {
    "plugin": agent_plugin.read,
    "skill": skill.read,
    "mcpb": mcpb.read,
    "model": model.read,
    "python": python_project.read,
}
_OTHER = re.compile(r"[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class ProposedIds:
    """Ids for a package, made from its own words.

    Attributes:
        worker_id: `org.acme.pdf-forms`.
        worker_species_id: `wrk.skill.pdf-forms`.
        worker_version: None where the package names none, or one that is no version.
    """

    worker_id: str
    worker_species_id: str
    worker_version: str | None


def describe(root: str, *, kind: str | None = None) -> Described | None:
    """Return what a directory says it is, or None when it is of no known kind.

    Args:
        root: the package directory.
        kind: only this kind.

    Raises:
        ConfigError: the file that should describe it cannot be read or is malformed.
    """
    reader = Reader(root)
    for name, read in READERS.items():
        if kind in {None, name} and (found := read(reader)) is not None:
            return found
    return None


def proposed_ids(described: Described, namespace: str) -> ProposedIds:
    """Return the ids that a package would have in a namespace.

    Raises:
        ConfigError: the namespace is none, or the name gives no id.
    """
    check_namespace(namespace)
    name = _OTHER.sub("-", described.name.lower()).strip("-")
    worker_id = f"{namespace}.{name}"
    if not name or id_problem(worker_id, segments=3):
        raise ConfigError(
            f"the {described.kind} is called {described.name[:80]!r}, which gives no worker id; give --worker-id"
        )
    version = described.version
    return ProposedIds(
        worker_id,
        f"wrk.{described.kind}.{name}",
        version if version is not None and version_problem(version) is None else None,
    )
