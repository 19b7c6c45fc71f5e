"""The trust policy: who may speak for which namespace, and what is acceptable from them.

A policy is the operator's own document. It is never read from the tree being verified, and everything in it that is
empty, unknown or ambiguous is an error (`wcp_attest.policy.toml` describes the file).
"""

from __future__ import annotations

from wcp_attest.policy.model import Accept, Condition, Namespace, Policy
from wcp_attest.policy.toml import load_policy, parse_policy

__all__ = ["Accept", "Condition", "Namespace", "Policy", "load_policy", "parse_policy"]
