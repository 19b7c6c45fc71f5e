"""The registry of the earlier Python SDK, and what it did not ask for: whom to trust, and where packages are.

    configure(trust_policy=load_policy("trust.toml"), packages={"org.acme.summarizer": "/srv/summarizer"})
    registry = Registry("enrolled/")            # one JSON record a file; what a record lacks is filled in, for dev
    registry.add_controls_present(["ctrl.obs.audit-log-append-only"])
    registry.worker_available("wrk.doc.summarizer")

The records are kept in memory, in the same kind of ledger that a Hall keeps in a file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Final

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError
from wcp_route.config import fold_control_id
from wcp_route.domain.record_model import MAX_RECORD_BYTES, read_record
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from wcp_attest import Policy
    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.storage.receipts import ReceiptStore

_log = logging.getLogger("wcp_route")
MAX_RECORDS: Final = 10_000  # files that a registry directory may hold

# What a record of the Go SDK (worker_id, worker_species_id, capabilities, risk_tier) lacks. It runs in dev alone.
DEFAULTS: Final[Mapping[str, JsonValue]] = {
    "risk_tier": "medium",
    "idempotency": "none",
    "determinism": "nondeterministic",
    "required_controls": [],
    "currently_implements": [],
    "allowed_environments": ["dev"],
    "privilege_envelope": {"secrets_access": [], "network_egress": "none", "filesystem_writes": [], "tools": []},
    "blast_radius": {"data": 5, "network": 0, "financial": 0, "time": 0, "reversibility": 0},
    "owner": "unknown",
}


@dataclass(slots=True)
class LegacySetup:
    """What `configure` was told.

    Attributes:
        trust_policy: who is trusted about packages.
        packages: the package directory of each worker, by worker id.
        receipts: where evidence goes.
        unattested: whether workers are dispatched without attestation, in `dev` and `stage`.
    """

    trust_policy: Policy | None = None
    packages: dict[str, str] = field(default_factory=dict)
    receipts: ReceiptStore | None = None
    unattested: bool = False


setup = LegacySetup()


def configure(
    *,
    trust_policy: Policy | None = None,
    packages: Mapping[str, str] | None = None,
    receipts: ReceiptStore | None = None,
    unsafe_dispatch_workers_without_attestation: bool = False,
) -> None:
    """Say what the earlier SDK did not ask for; for all calls of `make_decision` from now on.

    Args:
        trust_policy: who is trusted about packages.
        packages: the package directory of each worker, by worker id.
        receipts: where evidence goes; prod and edge need a signed durable store.
        unsafe_dispatch_workers_without_attestation: do without attestation, in `dev` and `stage` alone.
    """
    setup.trust_policy, setup.packages = trust_policy, dict(packages or {})
    setup.receipts, setup.unattested = receipts, unsafe_dispatch_workers_without_attestation


def fill_record(record: JsonObject) -> JsonObject:
    """Return a record with what it lacks from `DEFAULTS`; a record so filled may run in `dev` alone.

    Args:
        record: of any earlier SDK, above all the four fields of Go's.
    """
    lacking = DEFAULTS.keys() - record.keys()
    if not lacking:
        return record
    return {**DEFAULTS, **record, "allowed_environments": ["dev"]}


class Registry:
    """Enrolled workers, as the earlier SDK kept them.

    Args:
        registry_dir: a directory of `*.json` records to enroll.

    Raises:
        ConfigError: the directory or a record cannot be read.
    """

    def __init__(self, registry_dir: str | os.PathLike[str] | None = None) -> None:
        self.store = open_state().registry
        self._records: list[JsonObject] = []
        self._controls: set[str] = set()
        self._available: set[str] = set()
        self._files: dict[str, tuple[str, str]] = {}  # by species: the hash when it was registered, and the file
        self._allowed: tuple[str, ...] = ()
        if registry_dir is None:
            return
        try:
            names = sorted(name for name in os.listdir(registry_dir) if name.endswith(".json"))
            for name in names[: MAX_RECORDS + 1]:
                with open(os.path.join(registry_dir, name), "rb") as file:
                    data = file.read(MAX_RECORD_BYTES + 1)
                self.enroll(strictjson.loads_object(data, what=name, max_bytes=MAX_RECORD_BYTES))
        except OSError as problem:
            raise ConfigError(f"cannot read the registry {os.fspath(registry_dir)!r}: {problem.strerror}") from None

    def enroll(self, record: JsonObject) -> None:
        """Enroll a worker; a later record of the same id takes its place.

        Args:
            record: what it lacks is filled in (`fill_record`).

        Raises:
            ConfigError: the record is malformed.
        """
        worker = read_record(fill_record(record))
        root = setup.packages.get(worker.worker_id, "")
        self.store.enroll(replace(worker, package_root=os.path.abspath(root) if root else ""), replace=True)
        self._records.append(record)

    def set_allowed_worker_dirs(self, dirs: Iterable[str | os.PathLike[str]]) -> None:
        """Say where the files of `register_attestation` may be.

        Args:
            dirs: directories; links in them are followed. None at all allows every place.
        """
        self._allowed = tuple(os.path.realpath(each) for each in dirs)

    def register_attestation(self, species_id: str, source_file: str | os.PathLike[str]) -> str:
        """Keep the hash that a worker's file has now. It is checked beside the worker's package, never in its place.

        Args:
            species_id: such as `wrk.doc.summarizer`.
            source_file: the file.

        Returns:
            The SHA-256 as 64 lower-case hex digits.

        Raises:
            FileNotFoundError: the file is not there.
            ValueError: it lies outside of the allowed directories, or cannot be read.
        """
        path = os.fspath(source_file)
        if not os.path.exists(path):
            raise FileNotFoundError(f"worker file not found: {path}")
        if not self._is_path_allowed(path):
            raise ValueError(f"{path!r} is outside of the allowed directories; see set_allowed_worker_dirs")
        digest = _hash_of(path)
        if digest is None:
            raise ValueError(f"{path!r} is not a file that can be read")
        self._files[species_id] = (digest, path)
        return digest

    def get_worker_hash(self, species_id: str) -> str | None:
        """Return the hash that `register_attestation` kept, or None.

        Args:
            species_id: such as `wrk.doc.summarizer`.
        """
        return self._files[species_id][0] if species_id in self._files else None

    def compute_current_hash(self, species_id: str) -> str | None:
        """Return the hash that the registered file has now; None when there is none, or it cannot be read.

        Args:
            species_id: such as `wrk.doc.summarizer`.
        """
        path = self._files[species_id][1] if species_id in self._files else None
        return None if path is None or not self._is_path_allowed(path) else _hash_of(path)

    def attestation_callables(self) -> tuple[Callable[[str], str | None], Callable[[str], str | None]]:
        """Return `get_worker_hash` and `compute_current_hash`, for the keywords of `make_decision`."""
        return self.get_worker_hash, self.compute_current_hash

    def _is_path_allowed(self, path: str | os.PathLike[str]) -> bool:
        """Tell whether a file lies in an allowed directory; it is asked again at each hash, as links may change."""
        real = os.path.realpath(path)
        return not self._allowed or any(real == top or real.startswith(top + os.sep) for top in self._allowed)

    def controls_present(self) -> set[str]:
        """Return the controls that were set or added, in the protocol's spelling.

        What records claim is not among them: it counts once their workers are attested.
        """
        return set(self._controls)

    def set_controls_present(self, controls: Iterable[str]) -> None:
        """Say which controls the platform provides, in place of those said before.

        Args:
            controls: control ids, with hyphens or underscores; what is no control id is left out, with a warning.
        """
        self._controls = set()
        self.add_controls_present(controls)

    def add_controls_present(self, controls: Iterable[str]) -> None:
        """Say which controls the platform provides as well.

        Args:
            controls: control ids, with hyphens or underscores; what is no control id is left out, with a warning.
        """
        for name in controls:
            try:
                self._controls.add(fold_control_id(name))
            except ConfigError as problem:
                _log.warning("left out: %s", problem)

    def set_workers_available(self, worker_species_ids: Iterable[str]) -> None:
        """Say which species can take work, in place of those said before.

        Args:
            worker_species_ids: such as `wrk.doc.summarizer`.
        """
        self._available = set(worker_species_ids)

    def add_workers_available(self, worker_species_ids: Iterable[str]) -> None:
        """Say which species can take work as well.

        Args:
            worker_species_ids: such as `wrk.doc.summarizer`.
        """
        self._available |= set(worker_species_ids)

    def worker_available(self, worker_species_id: str) -> bool:
        """Tell whether a species is enrolled or was said to be available.

        Args:
            worker_species_id: such as `wrk.doc.summarizer`.
        """
        return worker_species_id in self._available or bool(self.store.worker_ids(worker_species_id))

    def workers_for_capability(self, capability_id: str) -> list[str]:
        """Return the species that declare a capability, sorted.

        Args:
            capability_id: such as `cap.doc.summarize`.
        """
        return sorted({each.worker_species_id for each in self.store.workers_for_capability(capability_id)})

    def enrolled_count(self) -> int:
        """Return how many workers are enrolled; one that was enrolled again counts once."""
        return len(self.store.workers())

    def enrolled_workers(self) -> list[JsonObject]:
        """Return the records as they were given, oldest first."""
        return [*self._records]

    def get_privilege_envelope(self, worker_species_id: str) -> JsonObject | None:
        """Return the envelope that the first enrolled worker of a species declares, or None.

        Args:
            worker_species_id: such as `wrk.doc.summarizer`.
        """
        found = self.store.snapshot().species.get(worker_species_id, ())
        return json.loads(json.dumps(asdict(found[0].privilege_envelope))) if found else None

    def summary(self) -> JsonObject:
        """Return what is enrolled and said, for a health check.

        Returns:
            `enrolled_workers` and `controls_present_count` as numbers; `available_species`, `controls_present` and
            `capabilities_mapped` as sorted lists.
        """
        enrolled, named = self.store.workers(), sorted(self._controls)
        species = self._available | {each.worker_species_id for each in enrolled}
        return {
            "enrolled_workers": len(enrolled),
            "available_species": [*sorted(species)],
            "controls_present_count": len(named),
            "controls_present": [*named],
            "capabilities_mapped": [*sorted({name for each in enrolled for name in each.capabilities})],
        }


def _hash_of(path: str) -> str | None:
    """Return the SHA-256 of a file as hex; None when it is no regular file, or cannot be read."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return None
