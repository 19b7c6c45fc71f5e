"""Cases signed keyless, made from signatures that were frozen (`freeze_keyless.py`)."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.vectors.cases import GOOD, PACKAGE, Case, key, policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FROZEN = json.loads((Path(__file__).parent / "frozen" / "keyless.json").read_bytes())
ISSUER, SIGNED_AT = FROZEN["issuer"], FROZEN["signed_at"]
WORKFLOW = "https://github.com/acme/worker/.github/workflows/release.yml@refs/tags/v1"
BY_WORKFLOW = (
    f'sigstore = {{ issuer = "{ISSUER}", repository = "acme/worker", '
    'workflow = ".github/workflows/release.yml", ref = "refs/tags/*" }'
)
BY_PERSON = f'sigstore = {{ issuer = "{ISSUER}", identity = "release@acme.test" }}'
# What each root leaves out of time: the member's place in the trusted root.
ENDED = {
    "log-1": ("tlogs", 0),
    "log-2": ("tlogs", 1),
    "ct": ("ctlogs", 0),
    "ca": ("certificateAuthorities", 0),
    "tsa": ("timestampAuthorities", 0),
}


def roots() -> dict[str, bytes]:
    """Return the trusted roots that the policies pin, by the names they have there."""
    made = {"keys/sigstore.json": FROZEN["trusted_root"]}
    end = datetime.fromtimestamp(SIGNED_AT - 3600, tz=UTC).isoformat().replace("+00:00", "Z")
    for name, (place, number) in ENDED.items():
        root = copy.deepcopy(FROZEN["trusted_root"])
        member = root[place][number]
        member.get("publicKey", member)["validFor"]["end"] = end
        made[f"keys/sigstore-{name}-ended.json"] = root
    return {name: json.dumps(root, indent=1).encode() + b"\n" for name, root in made.items()}


def line(name: str, change: Callable[[Any], object] | None = None) -> bytes:
    """Return a frozen line, with one change where asked."""
    bundle = json.loads(FROZEN["lines"][name])
    if change is not None:
        change(bundle)
    return json.dumps(bundle, separators=(",", ":")).encode() + b"\n"


def keyless(
    name: str, why: str, code: str = "", *, root: str = "sigstore", demand: bool = False, **changes: Any
) -> Case:
    """Return the good keyless case with changes.

    Args:
        name: of the case.
        why: what it shows.
        code: the expected denial, empty for a pass.
        root: which of the roots the policy pins.
        demand: whether the policy demands a timestamp.
        changes: of the case; `signers` and `threshold` are those of its policy.
    """
    text = policy(*changes.pop("signers", (BY_WORKFLOW,)), threshold=changes.pop("threshold", 1))
    text += f'[sigstore]\ntrusted_root = "keys/{root}.json"\n' + ("require_timestamp = true\n" if demand else "")
    given = {"signatures": line("rekor-1"), "policy": text, "now": SIGNED_AT + 60, **changes}
    return replace(GOOD, name=f"keyless-{name}", why=why, expected=code and f"ATTEST_{code}", **given)


def every() -> Iterator[Case]:
    """Yield all keyless cases."""
    yield from passes()
    yield from strangers()
    yield from denials()
    yield from out_of_time()


def passes() -> Iterator[Case]:
    """Yield what passes."""
    yield keyless("workflow", "signed by a workflow, logged with its time and timestamped", demand=True)
    yield keyless("log-2", "a log without times; the timestamp says when", signatures=line("rekor-2"), demand=True)
    exact = f'sigstore = {{ issuer = "{ISSUER}", identity = "{WORKFLOW}" }}'
    yield keyless("identity", "the exact identity", signers=(exact,))
    yield keyless("person", "signed by a person", signatures=line("person"), signers=(BY_PERSON,))
    yield keyless("without-timestamp", "the log vouches for the time", signatures=line("without-timestamp"))
    both = line("rekor-1") + PACKAGE.key_line("ed25519")
    yield keyless(
        "and-key", "two of two across methods", signatures=both, signers=(BY_WORKFLOW, key("ed25519")), threshold=2
    )
    yield keyless("stranger-beside", "a line by somebody else", signatures=line("person") + line("rekor-1"))
    broken = line("person", lambda bundle: bundle["dsseEnvelope"]["signatures"][0].update(sig="AAAA"))
    yield keyless("broken-beside", "a line that does not hold counts for nothing", signatures=broken + line("rekor-1"))
    yield keyless("other-root-ended", "what did not vouch may have ended", root="sigstore-log-2-ended")


def strangers() -> Iterator[Case]:
    """Yield signatures that hold, by somebody the policy does not name."""
    untrusted = "SIGNER_UNTRUSTED"
    for name, why, fields in (
        ("issuer", "another issuer", {"issuer": ISSUER + "/"}),
        ("repository", "another repository", {"repository": "acme/worker2"}),
        ("workflow", "another workflow", {"workflow": ".github/workflows/test.yml"}),
        ("ref", "another ref", {"ref": "refs/heads/*"}),
    ):
        expected = {"issuer": ISSUER, "repository": "acme/worker", **fields}
        signer = ", ".join(f'{key} = "{value}"' for key, value in expected.items())
        yield keyless(f"other-{name}", why, untrusted, signers=(f"sigstore = {{ {signer} }}",))
    yield keyless("branch", "a branch where a tag is asked for", untrusted, signatures=line("branch"))
    person = f'sigstore = {{ issuer = "{ISSUER}", identity = "release@acme.tes" }}'
    yield keyless(
        "identity-prefix", "a prefix is not the identity", untrusted, signatures=line("person"), signers=(person,)
    )
    twice = line("rekor-1") + line("rekor-2")
    yield keyless(
        "twice",
        "the same identity twice is one signer",
        "THRESHOLD_NOT_MET",
        signatures=twice,
        signers=(BY_WORKFLOW, BY_PERSON),
        threshold=2,
    )


def denials() -> Iterator[Case]:
    """Yield signatures that do not hold, or hold over something else."""
    invalid = "SIG_INVALID"
    changes: dict[str, tuple[str, Callable[[Any], object]]] = {
        "signature": ("another signature", lambda b: b["dsseEnvelope"]["signatures"][0].update(sig="AAAA")),
        "no-entry": ("no log entry", lambda b: b["verificationMaterial"].update(tlogEntries=[])),
        "entry-of-another": ("the log entry of another signature", lambda b: _take(b, "tlogEntries")),
        "certificate-of-another": ("the certificate of another signer", lambda b: _take(b, "certificate")),
        "timestamp-of-another": ("the timestamp of another signature", lambda b: _take(b, "timestampVerificationData")),
        "promise": ("another promise", lambda b: _entry(b)["inclusionPromise"].update(signedEntryTimestamp="AAAA")),
        "proof": ("a proof of another length", lambda b: _entry(b)["inclusionProof"].update(treeSize="99")),
        "spelling": ("a field in another spelling", _respell),
        "no-time": ("nothing proves the time", _without_time),
        "unknown-field": ("an unknown field", lambda b: b["verificationMaterial"].update(further=1)),
    }
    for name, (why, change) in changes.items():
        yield keyless(name, why, invalid, signatures=line("rekor-1", change))
    yield keyless("no-timestamp", "a timestamp is demanded", invalid, signatures=line("without-timestamp"), demand=True)
    yield keyless("other-manifest", "over another manifest", invalid, signatures=line("other-manifest"))
    mismatch = "MANIFEST_ID_MISMATCH"
    yield keyless("other-worker", "the statement names another worker", mismatch, signatures=line("other-worker"))


def out_of_time() -> Iterator[Case]:
    """Yield signatures made after the end of what vouches for them, and ages that the policy does not accept."""
    for name in ("log-1", "ct", "ca", "tsa"):
        yield keyless(
            f"ended-{name}", f"made after the end of the root's {name}", "SIG_INVALID", root=f"sigstore-{name}-ended"
        )
    yield keyless(
        "ended-log-2",
        "made after the end of the root's log-2",
        "SIG_INVALID",
        signatures=line("rekor-2"),
        root="sigstore-log-2-ended",
    )
    yield keyless("future", "dated in the future", "EXPIRED", now=SIGNED_AT - 3600)


def _entry(bundle: Any) -> Any:
    return bundle["verificationMaterial"]["tlogEntries"][0]


def _take(bundle: Any, part: str) -> None:
    other = json.loads(FROZEN["lines"]["person"])
    bundle["verificationMaterial"][part] = other["verificationMaterial"][part]


def _respell(bundle: Any) -> None:
    entry = _entry(bundle)
    entry["log_index"] = entry.pop("logIndex")


def _without_time(bundle: Any) -> None:
    del bundle["verificationMaterial"]["timestampVerificationData"], _entry(bundle)["inclusionPromise"]
