"""Who is banned: lists that are signed, versioned and fresh, and what happens when they are not.

    from wcp_attest import load_policy
    from wcp_attest.bans import load_bans
    bans = load_bans(load_policy("policy.toml"))      # raises BansUnusable when a list cannot be relied on
    bans.check_before(facts)                          # raises Banned

Whatever is missing, stale, rolled back, unsigned or malformed is an error with a code, never an empty list. The public
names are imported when they are first used; what needs the network, only when a source of that kind is configured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wcp_attest.bans.facts import BanCheck, PackageFacts

if TYPE_CHECKING:
    from wcp_attest.bans.check import Bans as Bans
    from wcp_attest.bans.check import Hit as Hit
    from wcp_attest.bans.compiled import CompiledBans as CompiledBans
    from wcp_attest.bans.compiling import compile_list as compile_list
    from wcp_attest.bans.document import BanList as BanList
    from wcp_attest.bans.document import Head as Head
    from wcp_attest.bans.model import Ban as Ban
    from wcp_attest.bans.model import Kind as Kind
    from wcp_attest.bans.model import make_ban as make_ban
    from wcp_attest.bans.policy import BansCondition as BansCondition
    from wcp_attest.bans.policy import load_bans as load_bans
    from wcp_attest.bans.signed import ListSigners as ListSigners
    from wcp_attest.bans.signed import sign_list as sign_list

_HOMES = {
    "check": ("Bans", "Hit"),
    "compiled": ("CompiledBans",),
    "compiling": ("compile_list",),
    "document": ("BanList", "Head"),
    "model": ("Ban", "Kind", "make_ban"),
    "policy": ("BansCondition", "load_bans"),
    "signed": ("ListSigners", "sign_list"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: PLE0604  # the table above is the one list of the names that are imported late
    "BanCheck",
    "PackageFacts",
    *_HOME_OF,
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'wcp_attest.bans' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"wcp_attest.bans.{home}"), name)
    globals()[name] = value
    return value
