"""The public names of the trust policy: who may speak for which namespace, and what is acceptable from them.

A policy is the operator's own document. It is never read from the tree being verified, and everything in it that is
empty, unknown or ambiguous is an error (`wcp_attest.trust.policy_file` describes the file).
"""

from wcp_attest.trust.policy import Accept, Condition, Namespace, Policy
from wcp_attest.trust.policy_file import load_policy, parse_policy

__all__ = ["Accept", "Condition", "Namespace", "Policy", "load_policy", "parse_policy"]
