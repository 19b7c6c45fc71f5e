"""The names and calls of the earlier SDKs."""

from wcp_route.compat.options import LegacyGate as LegacyGate
from wcp_route.compat.options import Options as Options
from wcp_route.compat.options import make_decision as make_decision
