"""A list in a file: `bans.json`, its signatures in `bans.json.sig`, and perhaps its compiled form."""

from __future__ import annotations

import time
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar, Final

from wcp_attest.base.errors import BansUnusable
from wcp_attest.disk.private_files import open_regular, read_file
from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES
from wcp_attest.trust.bans.document import MAX_LIST_BYTES, MAX_SOURCE_BYTES
from wcp_attest.trust.bans.feeds import VerifiedList
from wcp_attest.trust.bans.list_verifier import FetchedList, PairMismatch
from wcp_attest.trust.bans.rollback_guard import Seen
from wcp_attest.trust.bans.signed_list import SIGNATURE_SUFFIX

if TYPE_CHECKING:
    from wcp_attest.trust.bans.list_verifier import ListVerifier

PAIR_ATTEMPTS: Final = 3  # list and signatures are two files: `ban add --key` may be between their two renames
PAIR_PAUSE: Final = 0.05  # seconds between the attempts
_BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class FileFeed:
    """A list in a file.

    Attributes:
        path: of the list; its signatures are beside it.
        compiled: path of the compiled form, or None to read the list itself.
        signed: whether the list must be signed. An unsigned one is the operator's own: it is refused when another user
            could have written it.
    """

    path: str
    compiled: str | None = None
    signed: bool = True
    remote: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """`file:` and the path."""
        return f"file:{self.path}"

    @property
    def files(self) -> tuple[str, ...]:
        """The list, its signatures and its compiled form, as far as they are read."""
        named = (self.path, self.path + SIGNATURE_SUFFIX if self.signed else None, self.compiled)
        return tuple(path for path in named if path is not None)

    def open(self, verifier: ListVerifier) -> VerifiedList:
        """Read the list or its compiled form, and have it admitted.

        Args:
            verifier: the conditions of this moment.

        Returns:
            The admitted list.

        Raises:
            BansUnusable: a file is missing, unreadable or too large; or the list is not admitted.
        """
        if self.compiled is not None:
            return self._open_compiled(self.compiled, verifier)
        attempt = 0
        while True:
            document = read_file(self.path, MAX_LIST_BYTES, self.name, private=not self.signed, follow=self.signed)
            try:
                index = verifier.admit(self.name, FetchedList(document, self._signatures() if self.signed else None))
                return VerifiedList(self.name, index)
            except PairMismatch:
                attempt += 1
                if attempt >= PAIR_ATTEMPTS:
                    raise
            time.sleep(PAIR_PAUSE)

    def _open_compiled(self, compiled: str, verifier: ListVerifier) -> VerifiedList:
        """Use the compiled form if it was made from the list that is signed."""
        from wcp_attest.trust.bans.compiled import CompiledBans

        index = CompiledBans.open(compiled)
        if self.signed:
            said = verifier.signed(self.name, self._signatures())
        else:  # the operator's own list: the digest that it has now
            hasher, left = sha256(), MAX_SOURCE_BYTES
            with open(open_regular(self.path, self.name, private=True), "rb") as stream:
                while left > 0 and (block := stream.read(_BLOCK)):
                    hasher.update(block)
                    left -= len(block)
            said = Seen(index.head, hasher.hexdigest())
        if (said.list_sha256, said.head) != (index.list_sha256, index.head):
            raise BansUnusable(
                f"compiled ban list `{compiled}` was made from another list than {self.name} is now; compile it again"
            )
        verifier.admit_head(self.name, said)
        return VerifiedList(self.name, index)

    def _signatures(self) -> bytes:
        path = self.path + SIGNATURE_SUFFIX
        return read_file(path, MAX_SIGNATURE_FILE_BYTES, f"the signatures of the ban list, `{path}`,", follow=True)
