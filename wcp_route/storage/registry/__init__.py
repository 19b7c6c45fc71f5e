"""Which workers there are, and which of them must not be used.

    registry = SqliteRegistry("hall.db")
    registry.enrol(record)                                     # a known worker_id is refused unless replace=True
    registry.snapshot().species["wrk.doc.summarizer"]          # enrolled workers, sorted by worker id
    registry.quarantine("org.acme.summarizer", "DENY_WORKER_TAMPERED", by="hall", at_ms=now_ms())

A decision takes one `snapshot` and looks at nothing else: it is frozen, carries the version it was made at, and is made
anew only after a change. Replacing a record leaves nothing of the old one. Only an operator's `clear` ends a
quarantine; enrolling again does not.
"""

from wcp_route.storage.registry.memory import MemoryRegistry
from wcp_route.storage.registry.shared import MAX_WORKERS, Registry, RegistryError
from wcp_route.storage.registry.sqlite import SqliteRegistry

__all__ = ["MAX_WORKERS", "MemoryRegistry", "Registry", "RegistryError", "SqliteRegistry"]
