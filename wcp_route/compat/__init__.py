"""The names and calls of the earlier SDKs."""

from wcp_route.compat.legacy_options import LegacyGate as LegacyGate
from wcp_route.compat.legacy_options import Options as Options
from wcp_route.compat.legacy_options import make_decision as make_decision
