"""The public names of ban lists: lists that are signed, versioned and fresh, and what happens when they are not.

    from wcp_attest import load_policy
    from wcp_attest.bans import load_bans
    bans = load_bans(load_policy("policy.toml"))      # raises BansUnusable when a list cannot be relied on
    bans.check_before(facts)                          # raises Banned

A list that is missing, stale, rolled back, unsigned or malformed is an error with a code, never an empty list.
"""

from wcp_attest.trust.bans.ban import Ban, Kind, make_ban
from wcp_attest.trust.bans.ban_check import Bans, Hit
from wcp_attest.trust.bans.bans_table import BansCondition, load_bans
from wcp_attest.trust.bans.compiled import CompiledBans
from wcp_attest.trust.bans.document import BanList, Head
from wcp_attest.trust.bans.held_lists import ListRefresher
from wcp_attest.trust.bans.list_compiler import compile_list
from wcp_attest.trust.bans.signed_list import ListSigners, sign_list
from wcp_attest.trust.conditions import BanCheck, PackageFacts

__all__ = [
    "Ban",
    "BanCheck",
    "BanList",
    "Bans",
    "BansCondition",
    "CompiledBans",
    "Head",
    "Hit",
    "Kind",
    "ListRefresher",
    "ListSigners",
    "PackageFacts",
    "compile_list",
    "load_bans",
    "make_ban",
    "sign_list",
]
