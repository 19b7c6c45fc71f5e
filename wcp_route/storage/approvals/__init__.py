"""Human approval: a request waits under an id until somebody speaks, or its time is over (spec 5.8, conformance row 3).

    approvals.hold(hold)                                               # the Hall; the caller gets the pending id
    resolution = approvals.resolve(pending_id, "approve", by="ada", at_ms=now_ms())
    hall.route(request, grant=resolution.grant_id)                     # the caller, once, with the same request

An approval does not dispatch anything. It gives a grant: good once, until the hold expires, for that request (by its
hash) and that worker only, and every check is run again when it is brought along.
"""

from wcp_route.storage.approvals.memory import MemoryApprovals
from wcp_route.storage.approvals.shared import (
    MAX_PENDING,
    Action,
    ApprovalError,
    ApprovalExpired,
    ApprovalStore,
    Resolution,
    State,
)
from wcp_route.storage.approvals.sqlite import SqliteApprovals

__all__ = [
    "MAX_PENDING",
    "Action",
    "ApprovalError",
    "ApprovalExpired",
    "ApprovalStore",
    "MemoryApprovals",
    "Resolution",
    "SqliteApprovals",
    "State",
]
