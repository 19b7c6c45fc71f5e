"""What each deny code means, why it happens and what to do: one source for `wcp-attest explain` and the docs page."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wcp_attest.base.differences import Change
from wcp_attest.base.errors import DenyCode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wcp_attest.base.differences import Difference


@dataclass(frozen=True, slots=True)
class Explanation:
    """The page of one code.

    Attributes:
        what: what was found, in one sentence.
        why: how a package usually comes to this.
        fix: what to do, most likely first.
    """

    what: str
    why: tuple[str, ...]
    fix: tuple[str, ...]


EXPLANATIONS: Final[dict[DenyCode, Explanation]] = {
    DenyCode.MANIFEST_MISSING: Explanation(
        "`manifest.json` is not there, or cannot be read.",
        (
            "The package was never built or signed.",
            "The command was pointed at the wrong directory, often one level too high or too low.",
            "A copy step left the file out, or its permissions do not let this user read it.",
        ),
        (
            "Give the directory that holds `manifest.json`.",
            "The publisher runs `wcp-attest sign ROOT …` and ships both files that it writes.",
        ),
    ),
    DenyCode.MANIFEST_MALFORMED: Explanation(
        "`manifest.json` is not in the one spelling that its schema allows, although its signature may hold.",
        (
            "It was edited or reformatted by hand or by a tool after it was built.",
            "It was written by something else, or by a newer version with another schema.",
            "It is the manifest of another format, such as `awp.v1`, which a policy must allow by name.",
        ),
        (
            "Build and sign it again: `wcp-attest build ROOT`, then `wcp-attest sign ROOT …`.",
            "Keep formatters and line-ending conversion away from `manifest.json` (in git: `manifest.json -text`).",
            'For `awp.v1`, add it to `[accept] schemas` in the policy: `schemas = ["awp.v2", "awp.v1"]`.',
        ),
    ),
    DenyCode.MANIFEST_ID_MISMATCH: Explanation(
        "The package is signed and says that it is another worker, species or version than was expected.",
        (
            "`--worker-id`, `--species-id` or the caller names another worker than the manifest does.",
            "A signature made for one manifest was copied beside another.",
            "A package was put in the place of another one, by mistake or on purpose.",
        ),
        (
            "Compare `wcp-attest show ROOT` with what you expected; fetch the right package.",
            "If the package was renamed on purpose, build and sign it under its new id.",
        ),
    ),
    DenyCode.HASH_MISMATCH: Explanation(
        "The tree is not what the manifest says: something was modified, removed or added, or a mode or link differs.",
        (
            "A file was changed after signing; this is what an attack looks like, too.",
            "A checkout converted line endings, or an archive or copy lost the executable bit or the links.",
            "A build, an editor or the worker itself wrote files into the package directory.",
            "There is unlisted bytecode (`__pycache__/`, `*.pyc`): it runs instead of its source, and may differ.",
            "A download was cut short.",
        ),
        (
            "Read the list of differences: each one names the entry and, where it can be told, the likely cause.",
            "Unpack or check out the package again; in git, set `* -text` for packages.",
            "For bytecode: `wcp-attest clean ROOT`, and run workers with `PYTHONDONTWRITEBYTECODE=1`.",
            "If the change is meant, ask the publisher to build and sign the package again.",
            "Never sign a tree again only to make a denial go away.",
        ),
    ),
    DenyCode.SIGNATURE_MISSING: Explanation(
        "`manifest.sig` is not there, cannot be read, or holds no signature.",
        (
            "The package was built and not signed.",
            "A copy step took `manifest.json` and left `manifest.sig` behind.",
        ),
        ("Sign it: `wcp-attest sign ROOT --key FILE`.", "Ship `manifest.json` and `manifest.sig` together."),
    ),
    DenyCode.SIG_INVALID: Explanation(
        "A signature is malformed, or does not hold over these bytes of `manifest.json`.",
        (
            "`manifest.json` was rebuilt or changed after it was signed.",
            "`manifest.sig` was cut short, merged by hand or converted.",
            "The shared secret is not the one that signed.",
            "One of the two files was tampered with.",
        ),
        (
            "Fetch both files again from the release.",
            "After a rebuild, sign again; lines that no longer hold are dropped then.",
            "For a shared secret, check that both sides hold the same bytes.",
        ),
    ),
    DenyCode.SIGNER_UNTRUSTED: Explanation(
        "No signature is by a signer that the policy names for this worker's namespace.",
        (
            "The package is signed with a key or identity that the policy does not list.",
            "The signer is trusted, but for another namespace.",
            "The release workflow was renamed or moved, or ran on another branch or tag than the policy allows.",
            "A key was rotated and the policy was not.",
        ),
        (
            "`wcp-attest show ROOT` tells who signed; `wcp-attest policy show` tells who may.",
            "If the signer is right, have the owner of the policy add it to the namespace.",
        ),
    ),
    DenyCode.THRESHOLD_NOT_MET: Explanation(
        "Fewer different trusted signers signed than the policy asks for.",
        (
            "A second signature is still to be made.",
            "One signer signed twice; that counts once.",
            "A line was lost when `manifest.sig` was copied or merged.",
        ),
        (
            "Have another of the listed signers run `wcp-attest sign ROOT …`: a signature is added, none is replaced.",
            "`wcp-attest show ROOT` lists the signatures that are there.",
        ),
    ),
    DenyCode.NAMESPACE_INVALID: Explanation(
        "The worker id gives no namespace, or one that the policy does not know.",
        (
            "The id does not start with `org.<name>.` or `x.<name>.`.",
            "The policy has no `[[namespace]]` of exactly this name; there are no wildcards and no inheritance.",
        ),
        (
            "Check the spelling of the worker id: `org.acme.summarizer` belongs to `org.acme`.",
            "Have the owner of the policy add the namespace together with its signers.",
        ),
    ),
    DenyCode.TREE_UNSAFE: Explanation(
        "The tree holds something that must not be in a package, or could not be read safely.",
        (
            "There is a socket, pipe, device or set-id file, a name that is not UTF-8, or a link out of the package.",
            "A file or directory is unreadable, or changed while it was read.",
            'With `permissions = "strict"`: an entry is writable by others, foreign, or has further hard links.',
        ),
        (
            "Remove or rename what the message names, or correct its permissions; signers may `--exclude` it.",
            "If it changed while it was read, stop the program that writes to the tree, or verify a copy of it.",
        ),
    ),
    DenyCode.BANNED: Explanation(
        "A ban names this package, one of its files, its worker or version, its signer or its namespace.",
        (
            "An incident responder banned it; the message gives the reason and where the ban comes from.",
            "A file inside is the same, byte for byte, as one that was banned elsewhere.",
        ),
        (
            "Do not run it. Take a version that is not banned.",
            "If the ban is a mistake, ask the signer of the ban list to lift it; it cannot be overridden here.",
        ),
    ),
    DenyCode.BANS_UNUSABLE: Explanation(
        "A ban list that the policy asks for cannot be used, so whether the package is banned is not known.",
        (
            "The list is missing, expired or too old, or an older one than was seen before.",
            "It is unsigned, signed by another signer, truncated or malformed.",
            "Its source cannot be reached and there is no copy that is still fresh.",
        ),
        (
            "The message names the list and the reason. Fetch a fresh list, or fix the connection.",
            "The issuer signs the list again with a later `issued_at` and a higher `version`.",
        ),
    ),
    DenyCode.TRUST_UNUSABLE: Explanation(
        "The material needed for the decision cannot be had: a key, a secret or a trusted root.",
        (
            "A key file that the policy names is missing, unreadable or of an unsupported type.",
            "The environment variable of a shared secret is not set in this process.",
            "There is no network to fetch the Sigstore root and none is pinned.",
        ),
        (
            "`wcp-attest policy check FILE` tells what is missing; paths in a policy are relative to the policy file.",
            "Set the variable where the verifier runs, or pin `trusted_root` in `[sigstore]`.",
        ),
    ),
    DenyCode.EXPIRED: Explanation(
        "The signature is older than the policy's `max_age` allows, or dated in the future.",
        (
            "The package was released long ago.",
            "The clock of the signer or of this machine is wrong.",
        ),
        (
            "Check the clock of this machine.",
            "Ask the publisher to review the package and sign it again.",
        ),
    ),
    DenyCode.NOT_ACCEPTABLE: Explanation(
        "The package is signed and intact, but of a kind that the policy's `[accept]` table does not allow.",
        (
            "Its schema is not in `schemas`.",
            "It has excludes and the policy refuses them: parts of its tree are not covered.",
        ),
        (
            "Have it built in the accepted way, for instance without excludes.",
            "If it is acceptable after all, the owner of the policy widens `[accept]`.",
        ),
    ),
    DenyCode.INTERNAL_ERROR: Explanation(
        "Something unexpected happened while the package was checked. Anything unexpected is a denial.",
        (
            "The machine ran out of memory or file descriptors.",
            "There is a mistake in this program.",
        ),
        (
            "Run it again with `WCP_ATTEST_DEBUG=1` and read what it prints.",
            "Please report it with that text; see SECURITY.md if a crafted package causes it.",
        ),
    ),
}


def explain(code: DenyCode) -> Explanation:
    """Return the page of a code."""
    return EXPLANATIONS[code]


# What the cause of a difference says, and what to do then. The order is that of the advice.
_BY_CAUSE: Final = (
    ("line endings", "In git, put `* -text` into the package's .gitattributes, then check out again."),
    ("execute bit", "Unpack or copy with modes: `tar -xpf`, `unzip` or `cp -a`; or restore the mode that is named."),
    ("links preserved", "Copy with links preserved: `cp -a` or `rsync -a`; zip with `-y`."),
    ("without symbolic links", "Unpack with `unzip` or `tar`, or check out with `git config core.symlinks true`."),
    ("Git LFS", "Fetch the contents: `git lfs pull`."),
    ("git repository", "Verify an export without `.git` (`git archive`), or sign the package in a checkout."),
    ("interrupted", "Fetch or copy the package again; it arrived incomplete."),
    ("cut off", "Fetch or copy the package again; it arrived incomplete."),
)


def advice_for(code: DenyCode, message: str, differences: Sequence[Difference], root: str) -> tuple[str, ...]:
    """Return what to do about a denial, chosen by what was found and not by its code alone; most likely first.

    Args:
        code: of the denial.
        message: of the denial.
        differences: between tree and manifest, as far as they are listed.
        root: the package, as the user named it.
    """
    general = explain(code).fix
    chosen = list(_advice_on_differences(differences, root))
    if code is DenyCode.HASH_MISMATCH and chosen:
        # The general advice on line endings and bytecode is replaced by that on what was found.
        general = tuple(line for line in general if "-text" not in line and "bytecode" not in line)
    if code is DenyCode.TREE_UNSAFE and "cannot be read" in message:
        general = ("Make it readable for this user (`chmod`), or verify as a user who may read it.", *general[1:])
    return tuple(dict.fromkeys((*chosen, *general)))


def _advice_on_differences(differences: Sequence[Difference], root: str) -> Iterator[str]:
    causes = "\n".join({difference.cause for difference in differences})
    if any(difference.change is Change.BYTECODE or "clean" in difference.cause for difference in differences):
        command = shlex.join(["wcp-attest", "clean", root])
        yield f"Remove the bytecode: `{command}`; run workers with `PYTHONDONTWRITEBYTECODE=1`."
    yield from (line for cause, line in _BY_CAUSE if cause in causes)
    if os.path.islink(os.path.join(root, "..data")):
        place = shlex.quote(os.path.join(root, "..data"))
        yield (
            "This is a mount of links, as Kubernetes makes of a ConfigMap or Secret; give the directory that holds the"
            f' real files: "$(readlink -f {place})".'
        )
