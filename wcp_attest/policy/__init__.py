"""The trust policy: who may speak for which namespace, and what is acceptable from them.

A policy is the operator's own document. It is never read from the tree being verified, and everything in it that is
empty, unknown or ambiguous is an error (`wcp_attest.policy.toml` describes the file).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wcp_attest.policy.model import Accept, Condition, Namespace, Policy

if TYPE_CHECKING:
    from wcp_attest.policy.toml import load_policy, parse_policy

__all__ = ["Accept", "Condition", "Namespace", "Policy", "load_policy", "parse_policy"]


def __getattr__(name: str) -> object:
    """Import the reader of policy files when it is first asked for: a policy built in memory does not need it."""
    if name not in {"load_policy", "parse_policy"}:
        raise AttributeError(f"module 'wcp_attest.policy' has no attribute {name!r}")
    from wcp_attest.policy import toml

    value: object = getattr(toml, name)
    globals()[name] = value
    return value
