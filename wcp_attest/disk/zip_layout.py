"""Is a zip the same to every program that reads it? The check of its two kinds of headers and of what is between them.

Format: PKWARE APPNOTE.TXT 6.3.
"""

from __future__ import annotations

import os
import struct
from typing import IO, TYPE_CHECKING, Final

from wcp_attest.base.errors import TreeUnsafe

if TYPE_CHECKING:
    import zipfile

UTF8_NAME: Final = 0x800  # general purpose bit 11 (APPNOTE.TXT 4.4.4)
ENCRYPTED: Final = 0x1 | 0x40 | 0x2000  # general purpose bits 0, 6 and 13
_SIZES_FOLLOW: Final = 0x8  # general purpose bit 3
_MAX_END: Final = 22 + (1 << 16)  # bytes of the end record and its comment (APPNOTE.TXT 4.3.16)
_LARGE: Final = 0xFFFFFFFF  # in place of a number that a zip64 field holds (APPNOTE.TXT 4.5.3)
_ZIP64: Final = 0x1  # kind of that field
_OTHER_NAME: Final = 0x7075  # kind of the field that gives a member another name (APPNOTE.TXT 4.6.9)


def check_layout(file: IO[bytes], members: list[zipfile.ZipInfo], directory: int) -> None:
    """Refuse a zip in which two programs may find different members.

    Some programs read its directory, others go from one local header to the next. So both must say the same, with
    nothing between the members, before them, or after the end record and its comment (APPNOTE.TXT 4.3).

    Args:
        file: the zip, which can seek.
        members: all that its directory lists, sorted by their places.
        directory: the place of the directory, in bytes from the start.

    Raises:
        TreeUnsafe: there is such a difference, or the zip is damaged.
    """
    _check_end(file, len(members), directory)
    end, slack = 0, {0}
    for info in members:
        name, gap = info.orig_filename[:200], info.header_offset - end
        if gap not in slack:
            where = "overlaps another member" if gap < 0 else "has data before it that belongs to no member"
            raise TreeUnsafe(f"the archive holds {name!r}, which {where}")
        end, follow = _check_headers(file, info)
        slack = {0, 12, 16, 20, 24} if follow else {0}  # the sizes follow the data
    if directory - end not in slack:
        raise TreeUnsafe("the archive holds data before its directory that belongs to no member")


def _check_end(file: IO[bytes], count: int, directory: int) -> None:
    """Refuse a zip whose last end record does not state its whole directory, and no other, or which goes on behind it.

    Args:
        file: the zip.
        count: how many members there are.
        directory: the place of the directory.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _MAX_END))
    tail = file.read(_MAX_END)
    at = tail.rfind(b"PK\5\6")
    # Where it is cut short, it states no comment, and so does not reach the end.
    disk, start, here, total, _, offset, comment = struct.unpack("<4x4H2IH", tail[at:][:22].ljust(22, b"\0"))
    large = _has_large_end(file, size - len(tail) + at, count, directory)
    counts = {count, 0xFFFF} if large else {count}
    if at + 22 + comment != len(tail) or disk or start or {here, total} - counts:
        raise TreeUnsafe("the archive is damaged: its end record does not fit it, or data stands after it")
    if offset != directory and not (large and offset == _LARGE):
        raise TreeUnsafe("the archive is damaged: its directory is not where its end record says")


def _has_large_end(file: IO[bytes], end: int, count: int, directory: int) -> bool:
    """Tell whether a zip64 end record holds the numbers; refuse one that is not the only right one.

    Python reads the record that stands before the locator, other programs the one to which the locator points.

    Args:
        file: the zip.
        end: the place of the end record, which the locator precedes.
        count: how many members there are.
        directory: the place of the directory.
    """
    place = max(0, end - 76)
    file.seek(place)
    record = file.read(76)[: end - place]
    if record[-20:-16] != b"PK\6\7":
        return False
    numbers = struct.pack("<2I4Q", 0, 0, count, count, place - directory, directory) if directory <= place else b""
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, place, 1)
    if record[:12] != struct.pack("<4sQ", b"PK\6\6", 44) or record[16:] != numbers + locator:
        raise TreeUnsafe("the archive is damaged: its zip64 end record does not fit it")
    return True


def _check_headers(file: IO[bytes], info: zipfile.ZipInfo) -> tuple[int, bool]:
    """Refuse a member whose local header says anything else than the directory, or which has a second name.

    Returns:
        Where its data ends, and whether its sizes follow.
    """
    # 1. Read the local header. One that is cut short has no name.
    file.seek(info.header_offset)
    header = file.read(30).ljust(30, b"\0")
    mark, flags, method, crc, packed, size, length, extra = struct.unpack("<4s2x2H4x3I2H", header)
    name = file.read(length)
    spelled = name.decode("utf-8" if flags & UTF8_NAME else "cp437", "replace")
    same = mark == b"PK\3\4" and method == info.compress_type and spelled == info.orig_filename
    # 2. The numbers: as they are, or in a zip64 field; where the sizes follow the data, they may be missing here.
    fields, listed = _extra_fields(file.read(extra)), _extra_fields(info.extra)
    follow = bool(flags & _SIZES_FOLLOW)
    sizes = ((size, info.file_size), (packed, info.compress_size))
    missing = {0} if follow else set()
    large = b"".join(struct.pack("<Q", known) for stated, known in sizes if stated == _LARGE)
    same = same and crc in {info.CRC, *missing}
    same = same and all(stated in {known, _LARGE, *missing} for stated, known in sizes)
    same = same and (follow or fields.get(_ZIP64, b"").startswith(large))
    # 3. Some programs decrypt, or use the other name, where only one of the two headers says so.
    if not same or flags & ENCRYPTED & ~info.flag_bits:
        raise TreeUnsafe(f"the archive is damaged: the two headers of {info.orig_filename[:200]!r} differ")
    if any(each.get(_OTHER_NAME, b"")[5:] not in {b"", name} for each in (fields, listed)):
        raise TreeUnsafe(f"the archive holds {info.orig_filename[:200]!r}, which has a second name")
    return info.header_offset + 30 + length + extra + info.compress_size, follow


def _extra_fields(data: bytes) -> dict[int, bytes]:
    """Return the extra fields of a header by their kinds; refuse one that is there twice."""
    fields: dict[int, bytes] = {}
    while len(data) >= 4:  # less than that is padding
        kind, length = struct.unpack("<2H", data[:4])
        if kind in {_ZIP64, _OTHER_NAME} and kind in fields:
            raise TreeUnsafe(f"the archive is damaged: a header holds the field {kind:#06x} twice")
        fields[kind] = data[4 : 4 + length]
        data = data[4 + length :]
    return fields
