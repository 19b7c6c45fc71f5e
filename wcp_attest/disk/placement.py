"""Where the two files of a package are: `manifest.json` and `manifest.sig`, the pair.

    beside     my-worker/manifest.json, manifest.sig              the default
    folder     my-worker/.wcp/manifest.json, .wcp/manifest.sig    when another program's file has one of the names
    detached   a directory outside of the package                 for packages that must not change

The pair is the only part of a package that no manifest lists. Its place says which two files these are: with `folder`,
a `manifest.json` in the root is an ordinary entry; with `detached`, everything in the tree is an entry. So when
somebody adds a second pair to a signed package, either it is an entry that no manifest lists, or it is read in place of
the first and must be signed like any other. The formats are the same in all three; the subject of the statement is
always `manifest.json`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from wcp_attest.base.errors import ConfigError, MachineError, ManifestMissing, SignatureMissing
from wcp_attest.disk.directory import describe_os_error, is_machine_fault
from wcp_attest.disk.files import is_there, read_bounded
from wcp_attest.package.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, SIGNATURE_NAME
from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

Placement = Literal["beside", "folder", "detached"]
FOLDER_NAME: Final = ".wcp"
PAIR_NAMES: Final = (MANIFEST_NAME, SIGNATURE_NAME)
# The directory of the tree, empty or ending in `/`, that holds the pair; a detached pair is in none.
PAIR_FOLDERS: Final[dict[Placement, str]] = {"beside": "", "folder": f"{FOLDER_NAME}/"}


@dataclass(frozen=True, slots=True)
class PairPlace:
    """Where a pair is.

    Attributes:
        placement: which of the three.
        directory: path of the directory that holds the two files.
    """

    placement: Placement
    directory: str

    @property
    def manifest(self) -> str:
        """The path of `manifest.json`."""
        return os.path.join(self.directory, MANIFEST_NAME)

    @property
    def signatures(self) -> str:
        """The path of `manifest.sig`."""
        return os.path.join(self.directory, SIGNATURE_NAME)

    @property
    def label(self) -> str:
        """The manifest in messages: `manifest.json`, `.wcp/manifest.json`, or its whole path."""
        if self.placement == "detached":
            return self.manifest
        return PAIR_FOLDERS[self.placement] + MANIFEST_NAME


@dataclass(frozen=True, slots=True)
class PackagePair:
    """The manifest and the signature file of a package, as bytes.

    Attributes:
        manifest: the bytes of `manifest.json`.
        signatures: the bytes of `manifest.sig`, None when there is no such file.
        place: where they were read.
    """

    manifest: bytes
    signatures: bytes | None
    place: PairPlace

    @property
    def in_tree(self) -> dict[str, bytes]:
        """The two files by their paths in the tree; none for a detached pair."""
        folder = PAIR_FOLDERS.get(self.place.placement)
        contents = zip(PAIR_NAMES, (self.manifest, self.signatures or b""), strict=True)
        return {} if folder is None else {folder + name: data for name, data in contents}

    @classmethod
    def read(cls, place: PairPlace) -> PackagePair:
        """Read both files. In a package no link is followed; the files of a detached pair may be links.

        Args:
            place: where they are.

        Returns:
            The pair.

        Raises:
            ManifestMissing: the manifest is absent, unreadable or too large.
            SignatureMissing: the signature file is unreadable or too large, or is absent though the pair is in `.wcp/`
                or detached.
            MachineError: this machine is at fault; nothing was decided.
        """
        follow = place.placement == "detached"
        manifest = read_bounded(
            place.manifest, limit=MAX_MANIFEST_BYTES, what="the manifest", missing=ManifestMissing, follow=follow
        )
        path = place.signatures
        if place.placement == "beside" and not is_there(path):
            return cls(manifest, None, place)
        signatures = read_bounded(
            path, limit=MAX_SIGNATURE_FILE_BYTES, what="the signatures", missing=SignatureMissing, follow=follow
        )
        return cls(manifest, signatures, place)


def find_place(root: str, attestation: str | None = None) -> PairPlace:
    """Return where the pair of a package is to be read. Nothing is opened.

    Args:
        root: path of the package directory.
        attestation: path of the directory of a detached pair, or None.

    Returns:
        The place: `.wcp/` when there is a `.wcp/manifest.sig`, else the root.

    Raises:
        ConfigError: `attestation` is not a directory, or is inside the package.
        MachineError: this machine is at fault; nothing was decided.
    """
    if attestation is not None:
        if not os.path.isdir(attestation):
            raise ConfigError(f"{attestation!r} is not a directory; --attestation names the directory of the pair")
        return _detached(root, attestation)
    folder = os.path.join(root, FOLDER_NAME)
    if _is_directory(folder) and is_there(os.path.join(folder, SIGNATURE_NAME)):
        return PairPlace("folder", folder)
    return PairPlace("beside", root)


def pair_folder(root: str, placement: Placement | None) -> str | None:
    """Return the directory of a tree whose two files are the pair and so no entries.

    Args:
        root: path of the package directory.
        placement: where the pair is; None: where one is found, else in the root.

    Returns:
        The directory, empty or ending in `/`; None when the pair is outside of the tree.

    Raises:
        MachineError: this machine cannot look for the pair.
    """
    return PAIR_FOLDERS.get(placement or find_place(root).placement)


def choose_place(
    root: str,
    *,
    wanted: Placement | None = None,
    attestation: str | None = None,
    is_ours: Callable[[str, str], bool],
) -> PairPlace:
    """Return where a pair is to be written. Nothing is changed.

    Args:
        root: path of the package directory.
        wanted: the placement that the user asks for. None keeps the place of a pair that is there, and chooses `folder`
            when another program's file in the root has one of the two names.
        attestation: path of the directory for a detached pair, or None.
        is_ours: tells by name (`manifest.json` or `manifest.sig`) and path whether wcp-attest wrote a file that exists.

    Returns:
        The place.

    Raises:
        ConfigError: `wanted` and `attestation` contradict each other, `attestation` is empty or inside the package, or
            there would be two pairs of wcp-attest in the package.
        MachineError: this machine is at fault; nothing was decided.
    """
    if attestation is not None or wanted == "detached":
        return _detached(root, attestation, wanted)
    in_folder, in_root = PairPlace("folder", os.path.join(root, FOLDER_NAME)), PairPlace("beside", root)
    there = _is_directory(in_folder.directory) and any(map(os.path.lexists, (in_folder.manifest, in_folder.signatures)))
    paths = {name: os.path.join(root, name) for name in PAIR_NAMES}
    ours = {name: is_ours(name, path) for name, path in paths.items() if os.path.lexists(path)}
    placement = wanted
    if placement is None:
        # A damaged signature file beside a manifest of ours does not move the pair; the writer refuses that file.
        foreign = not ours.get(MANIFEST_NAME, all(ours.values()))
        placement = "folder" if there or foreign else "beside"
    if placement == "beside":
        if there:
            raise ConfigError(f"{in_folder.directory!r} holds a pair, which would be read first; remove it")
        return in_root
    if os.path.lexists(in_folder.directory) and not _is_directory(in_folder.directory):
        raise ConfigError(f"{in_folder.directory!r} is not a directory, so no pair can lie in it; move it away")
    if ours.get(MANIFEST_NAME):
        raise ConfigError(
            f"{in_root.manifest!r} is an older manifest of wcp-attest, and the pair goes into {FOLDER_NAME}/; "
            f"remove it and its {SIGNATURE_NAME} first"
        )
    return in_folder


def _detached(root: str, attestation: str | None, wanted: Placement | None = None) -> PairPlace:
    if attestation is None:
        raise ConfigError("a detached pair needs a directory outside of the package: give --attestation DIR")
    if wanted not in {None, "detached"}:
        raise ConfigError(f"the placement is {wanted}, and --attestation asks for a detached pair; choose one")
    if not attestation:
        raise ConfigError("the directory of the detached pair is an empty text; --attestation names a directory")
    package = os.path.realpath(root)
    if os.path.commonpath([package, os.path.realpath(attestation)]) == package:
        raise ConfigError(f"{attestation!r} is inside the package; a detached pair lies outside of it")
    return PairPlace("detached", attestation.rstrip("/") or "/")


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (OSError, ValueError) as problem:
        if is_machine_fault(problem):
            raise MachineError(f"cannot look for {path!r}: {describe_os_error(problem)}; nothing was decided") from None
        return False
