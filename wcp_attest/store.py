"""A store of verified packages, addressed by content: what was verified is what runs, again and again.

    STORE/<sha256 of manifest.json>/package/…        what the manifest lists, closed to writing
                                    manifest.json    the pair, which is judged anew at every use
                                    manifest.sig
                                    record.json      when, by which version, under which policy, from where: for people

An entry is verified while it is written, and it appears whole or not at all. At every use its signatures, the policy,
bans and age are judged anew. Its content is hashed again, unless `wcp_attest.disk.kept` finds that nobody could have
changed it.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

from wcp_attest.base.digest import sha256_hex
from wcp_attest.base.errors import (
    Banned,
    ConfigError,
    Expired,
    IdentityMismatch,
    ManifestMalformed,
    ManifestMissing,
    NamespaceInvalid,
    NotAcceptable,
    SignatureMissing,
    SignerUntrusted,
    ThresholdNotMet,
    TreeMismatch,
    TreeUnsafe,
    VerificationError,
)
from wcp_attest.base.identity import format_utc
from wcp_attest.disk import store_directory
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.directory import FOLDER_FLAGS, describe_os_error
from wcp_attest.disk.files import read_bounded, read_start
from wcp_attest.disk.kept import changeable
from wcp_attest.disk.options import ReadOptions
from wcp_attest.package.manifest import (
    MANIFEST_NAME,
    MAX_HEADER_BYTES,
    MAX_MANIFEST_BYTES,
    SIGNATURE_NAME,
    Manifest,
    read_head,
)
from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES
from wcp_attest.store_entries import RECORD_NAME, StoreEntry, newest_first, read_record
from wcp_attest.verdict import Expectation, Question, judge
from wcp_attest.verification import decide

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from types import TracebackType

    from wcp_attest.trust.conditions import BanCheck
    from wcp_attest.trust.policy import Policy
    from wcp_attest.verdict import Verdict, Verified
    from wcp_attest.verification import PackageProof

PACKAGE_NAME: Final = "package"
_MEMBERS = (PACKAGE_NAME, MANIFEST_NAME, SIGNATURE_NAME)
MIN_PREFIX = 8  # hex digits of an entry's name that are enough to name it
Content: TypeAlias = Literal["hashed", "owner"]

# An entry that is not what its name says, or not what was signed.
_SPOILT = (TreeMismatch, TreeUnsafe, ManifestMalformed, ManifestMissing, SignatureMissing)
# The policy does not allow it (any more). Every other failure ends the search, as an older release might not fail.
_NOT_ALLOWED = (Banned, Expired, NamespaceInvalid, NotAcceptable, SignerUntrusted, ThresholdNotMet)


class StoredPackage:
    """A verified package in a store. A context manager: while it is open, `store gc` leaves the entry alone.

    Attributes:
        verified: the proof.
        entry: name of the entry.
        path: of the package directory: run the worker from here.
        content: `hashed` when every byte was read now, `owner` when nobody but the store's keeper could change it.
        reason: why it was hashed; empty when it was not.
        descriptor: of the package directory, open.
        passed_over: newer entries of the worker that the policy does not allow, and why.
    """

    def __init__(
        self, verified: Verified | None, path: str, content: Content, reason: str, descriptors: tuple[int, int]
    ) -> None:
        self.verified: Verified = verified  # type: ignore[assignment]  # None until the store hands this out
        self.entry = os.path.basename(os.path.dirname(path))
        self.path = path
        self.content: Content = content
        self.reason = reason
        self.descriptor, self._lock = descriptors
        self.passed_over: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the entry."""
        for descriptor in {self.descriptor, self._lock} - {-1}:
            os.close(descriptor)
        self.descriptor = self._lock = -1


class PackageStore:
    """A store in a directory.

    Args:
        path: the directory; made when something is added.
        owner: id of the user who keeps it, for whom content need not be hashed again; 0 is root.
        group: id of the only group that may read what is added; None for everyone.
        private: whether the directory is made for its owner alone.
        durable: whether an entry is brought to disk before it appears.

    Raises:
        ConfigError: the path is an empty text.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        owner: int = 0,
        group: int | None = None,
        private: bool = False,
        durable: bool = True,
    ) -> None:
        if not os.fspath(path):
            raise ConfigError("the path of the store is an empty text")
        self.path = os.path.abspath(os.fspath(path))
        self.owner = owner
        self._group = group
        self._private = private
        self._durable = durable

    def add(
        self,
        root: str | os.PathLike[str],
        policy: Policy,
        *,
        expect: Expectation | None = None,
        bans: Sequence[BanCheck] = (),
        now: float | None = None,
        options: ReadOptions | None = None,
        attestation: str | os.PathLike[str] | None = None,
    ) -> StoredPackage:
        """Verify a package and keep a copy of the very bytes that were verified.

        The package is read in full even when its entry is there. An entry that is spoilt is set aside and made anew.

        Args:
            root: the package directory.
            policy: who is trusted for what.
            expect: what the worker must be, beyond what the policy says.
            bans: ban checks beyond those of the policy.
            now: seconds since the epoch; the clock by default.
            options: how to read the tree.
            attestation: the directory of a detached pair, or None.

        Returns:
            The package in the store; close it when the worker has ended.

        Raises:
            VerificationError: the package is refused; nothing was added.
            ConfigError: the store cannot be used.
        """
        question = Question.of(
            root, policy, expect=expect, bans=bans, now=now, options=options, attestation=attestation
        )
        inside, package = os.path.realpath(self.path), os.path.realpath(question.package)
        if os.path.commonpath([inside, package]) == package:
            raise ConfigError(f"the store {self.path!r} is inside the package; name a directory outside of it")

        def keep(proof: PackageProof) -> None:
            # The last step of the verification: the tree is compared while it is copied.
            store_directory.make_store(self.path, private=self._private)
            store_directory.collect(self.path)
            name = sha256_hex(proof.pair.manifest)
            reading = replace(question.options, placement=proof.pair.place.placement)
            signatures = proof.pair.signatures or b""
            if name in self.names():
                check_tree(question.package, proof.manifest, options=reading)
                if self._is_sound(name, signatures):
                    return
                store_directory.take_out(self.path, name, aside=True)
            with store_directory.NewEntry(self.path, name, group=self._group, durable=self._durable) as entry:
                target = os.path.join(entry.path, PACKAGE_NAME)
                check_tree(question.package, proof.manifest, options=reading, stage=target, rights=entry.rights)
                entry.write(MANIFEST_NAME, proof.pair.manifest)
                entry.write(SIGNATURE_NAME, signatures)
                entry.write(RECORD_NAME, _record(question, proof.manifest))
                entry.put()  # False: another process added the same entry meanwhile, verified just like this one

        verified, proof = decide(question, compare=keep)
        if proof is None:
            raise NotAcceptable("a package of schema awp.v1 cannot be kept in a store; sign it as awp.v2")
        return self._hold(verified.manifest_sha256, verified, "hashed", "it was verified now")

    def admit(self, root: str | os.PathLike[str], policy: Policy, **how: Any) -> Verdict:
        """Do as `add`, for callers who want a verdict: the entry is named by its `manifest_sha256`.

        Raises:
            ConfigError: the store cannot be used.
        """

        def attempt() -> Verified:
            with self.add(root, policy, **how) as held:
                return held.verified

        return judge(attempt)

    def package_path(self, name: str) -> str:
        """Return where the package of an entry lies; the directory above it holds its pair."""
        return os.path.join(self.path, name, PACKAGE_NAME)

    def open(
        self,
        name: str,
        policy: Policy,
        *,
        expect: Expectation | None = None,
        bans: Sequence[BanCheck] = (),
        now: float | None = None,
        options: ReadOptions | None = None,
        users: Collection[int] = (),
        require_hashed: bool = False,
    ) -> StoredPackage:
        """Verify an entry and hand it out.

        Args:
            name: of the entry.
            policy: who is trusted for what.
            expect: what the worker must be.
            bans: ban checks beyond those of the policy.
            now: seconds since the epoch; the clock by default.
            options: how to read the tree, when it is read.
            users: ids, beside that of this process, that must not be the store's owner: whom the worker runs as.
            require_hashed: hash the content in any case.

        Returns:
            The package; close it when the worker has ended.

        Raises:
            VerificationError: it is refused.
            ConfigError: there is no such entry, or it cannot be read.
        """
        held = self._hold(name, None, "hashed", "")

        def compare(proof: PackageProof) -> None:
            # 3. The content, unless nobody could have changed it; and it must be what the entry is named after.
            if sha256_hex(proof.pair.manifest) != name:
                raise ManifestMalformed(f"manifest.json is not the one that the entry {name[:16]}… is named after")
            if held.content == "hashed":
                check_tree(held.path, proof.manifest, options=replace(question.options, placement="detached"))
                if not os.path.samestat(os.fstat(held.descriptor), os.lstat(held.path)):
                    raise TreeUnsafe(f"{held.path!r} was replaced while it was read")

        try:
            # 1. Who could change the entry? Looked at first: what is read afterwards cannot be other files.
            asking = {os.geteuid(), os.getuid(), *users}
            reason = changeable(self.path, name, _MEMBERS, keeper=self.owner, users=asking) or ""
            held.reason = "that was asked for" if require_hashed else reason
            held.content = "hashed" if held.reason else "owner"
            question = Question.of(
                held.path,
                policy,
                expect=expect,
                bans=bans,
                now=now,
                options=options,
                attestation=os.path.join(self.path, name),
            )
            # 2. Signatures, policy, bans and age, from the entry's own pair, every time.
            held.verified = decide(question, compare=compare)[0]
        except BaseException:
            held.close()
            raise
        return held

    def newest(
        self, worker_id: str, version: str | None, policy: Policy, *, expect: Expectation | None = None, **how: Any
    ) -> StoredPackage:
        """Verify and hand out the newest entry of a worker that the policy still allows.

        Newest is the highest version; of versions that cannot be compared, and of equal ones, the latest built. An
        entry that the policy refuses (banned, too old, another signer) is passed over. One whose content is not what
        was signed ends the search: otherwise, spoiling it would bring an older release back.

        Args:
            worker_id: the worker.
            version: only this version, or None.
            policy: who is trusted.
            expect: what the worker must be; its worker id is the one given.
            how: further arguments of `open`.

        Raises:
            VerificationError: every entry is refused, or one is spoilt; the reason of the newest.
            ConfigError: there is no entry.
        """
        expected = Expectation(worker_id, None if expect is None else expect.worker_species_id)
        found = [entry for entry in self.entries() if entry.worker_id == worker_id]
        found = [entry for entry in found if version is None or entry.worker_version == version]
        found = newest_first(found)
        first: VerificationError | None = None
        passed_over: list[str] = []
        for entry in found:
            try:
                held = self.open(entry.name, policy, expect=expected, **how)
            except _NOT_ALLOWED as refusal:
                first = first or refusal
                passed_over.append(f"{entry.worker_version} ({entry.name[:16]}…): {refusal}")
                continue
            if held.verified.worker_version == entry.worker_version:
                held.passed_over = tuple(passed_over)
                return held
            held.close()  # its head changed while we looked
            raise IdentityMismatch(f"the entry {entry.name[:16]}… changed while it was read")
        if first is not None:
            raise first
        what = worker_id if version is None else f"{worker_id}@{version}"
        raise ConfigError(f"the store {self.path!r} holds no {what}; add it with `wcp-attest store add`")

    def changeable(self, name: str, *, users: Collection[int] = (), quick: bool = False) -> str | None:
        """Say who could change an entry beside root and the store's owner, or return None when nobody can.

        Args:
            name: of the entry.
            users: ids that must not be the owner's.
            quick: look at owners and modes alone; for who has asked without it within the last minute.
        """
        return changeable(self.path, name, _MEMBERS, keeper=self.owner, users=users, quick=quick)

    def names(self) -> list[str]:
        """Return the names of all entries, sorted.

        Raises:
            ConfigError: the store cannot be listed.
        """
        return store_directory.entry_names(self.path)

    def entries(self) -> Iterator[StoreEntry]:
        """Describe every entry by its own files, unverified; one that cannot be read has no worker id.

        Raises:
            ConfigError: the store cannot be listed.
        """
        for name in self.names():
            entry = os.path.join(self.path, name)
            try:
                head = read_head(read_start(os.path.join(entry, MANIFEST_NAME), MAX_HEADER_BYTES))
            except (ManifestMalformed, OSError):
                head = ("", "", "")
            yield StoreEntry(name, os.path.join(entry, PACKAGE_NAME), *head, record=read_record(entry))

    def resolve(self, text: str) -> str:
        """Return the name of the entry that a name, or at least 8 digits of it, means.

        Raises:
            ConfigError: there is none, or several.
        """
        if len(text) >= MIN_PREFIX:
            found = [name for name in self.names() if name.startswith(text)]
            if len(found) == 1:
                return found[0]
            if found:
                raise ConfigError(f"{text!r} means {len(found)} entries; give more digits")
        raise ConfigError(f"the store {self.path!r} has no entry {text!r}; `wcp-attest store list` shows them")

    def check(self, name: str, *, options: ReadOptions | None = None) -> None:
        """Hash an entry again and compare it with its manifest; who signed that is not asked.

        Raises:
            VerificationError: it is spoilt.
            ConfigError: it cannot be read.
        """
        entry = os.path.join(self.path, name)
        path = os.path.join(entry, MANIFEST_NAME)
        data = read_bounded(path, limit=MAX_MANIFEST_BYTES, what="the manifest", missing=ManifestMissing)
        if sha256_hex(data) != name:
            raise ManifestMalformed(f"manifest.json is not the one that the entry {name[:16]}… is named after")
        if not os.path.isfile(os.path.join(entry, SIGNATURE_NAME)):
            raise SignatureMissing(f"the entry {name[:16]}… has no manifest.sig")
        if not os.path.isdir(os.path.join(entry, PACKAGE_NAME)):
            raise TreeUnsafe(f"the entry {name[:16]}… has no package directory")
        reading = replace(options or ReadOptions(), placement="detached")
        check_tree(os.path.join(entry, PACKAGE_NAME), Manifest.parse(data), options=reading)

    def set_aside(self, name: str) -> None:
        """Take a spoilt entry out of use; `collect` with `spoilt` removes it.

        Raises:
            ConfigError: it cannot be renamed.
        """
        store_directory.take_out(self.path, name, aside=True)

    def remove(self, name: str) -> bool:
        """Remove an entry unless somebody uses it.

        Returns:
            Whether it was removed.

        Raises:
            ConfigError: it cannot be removed.
        """
        return store_directory.take_out(self.path, name)

    def collect(self) -> int:
        """Remove what killed writers left behind, and entries that were set aside; return how many.

        Raises:
            ConfigError: the store cannot be listed.
        """
        return store_directory.collect(self.path, spoilt=True)

    def _is_sound(self, name: str, signatures: bytes) -> bool:
        """Tell whether an entry may stay, and give it newer signatures of the same manifest."""
        try:
            if changeable(self.path, name, _MEMBERS, keeper=self.owner, users={os.geteuid()}) is not None:
                self.check(name)
            kept = read_bounded(
                os.path.join(self.path, name, SIGNATURE_NAME), limit=MAX_SIGNATURE_FILE_BYTES, what=SIGNATURE_NAME
            )
        except _SPOILT:
            return False
        if kept != signatures:
            store_directory.replace_member(self.path, name, SIGNATURE_NAME, signatures)
        return True

    def _hold(self, name: str, verified: Verified | None, content: Content, reason: str) -> StoredPackage:
        """Open and lock an entry.

        Raises:
            ConfigError: there is none, or it is being removed.
            TreeUnsafe: it has no package directory.
        """
        path = os.path.join(self.path, name, PACKAGE_NAME)
        lock = -1
        try:
            lock = os.open(os.path.dirname(path), FOLDER_FLAGS)
            removed = not store_directory.lock(lock, exclusive=False)
            # The lock may have come when the entry had gone already: then its name leads elsewhere, or nowhere.
            removed = removed or not store_directory.is_still(lock, os.path.dirname(path))
            package = -1 if removed else os.open(path, FOLDER_FLAGS)
        except OSError as problem:
            if lock < 0:
                what = f"cannot open the entry {name[:16]}… of the store {self.path!r}: {describe_os_error(problem)}"
                raise ConfigError(what) from None
            os.close(lock)
            raise TreeUnsafe(f"the entry {name[:16]}… has no package directory: {describe_os_error(problem)}") from None
        if removed:
            os.close(lock)
            raise ConfigError(f"the entry {name[:16]}… is being removed from the store")
        return StoredPackage(verified, path, content, reason, (package, lock))


def _record(question: Question, manifest: Manifest) -> bytes:
    from wcp_attest import __version__

    value = {
        "schema_version": 1,
        "worker_id": manifest.worker_id,
        "worker_version": manifest.worker_version,
        "added_at_utc": format_utc(question.now),
        "added_by": f"wcp-attest {__version__}",
        "policy_sha256": question.policy.digest or None,
        "added_from": os.fsencode(os.path.abspath(question.package)).decode("utf-8", "backslashreplace"),
    }
    return (json.dumps(value, indent=2) + "\n").encode()
