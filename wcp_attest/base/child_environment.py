"""What a process that we start gets of the environment: what it needs to run, and no secret.

A passphrase, a shared secret or the token of a CI job stands in the environment of the command that needs it. Everybody
who may read `/proc/PID/environ` of a child, and every program that the child starts in turn, would have it as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a program of this machine needs to be found, loaded and to write its temporary files.
_BARE: Final = re.compile(r"(PATH|HOME|USER|LOGNAME|TMPDIR|TZ|LANG|SYSTEMROOT)\Z|LC_|LD_|DYLD_|NIX_")
_GIT: Final = re.compile(r"GIT_|XDG_CONFIG_HOME\Z")
_OURS: Final = re.compile(r"WCP_(ATTEST|ROUTE)_")
_TOKENS: Final = re.compile(r"(ACTIONS_ID_TOKEN_REQUEST|BUILDKITE|CIRCLE)_|(SIGSTORE_ID_TOKEN)\Z")
_SECRETS: Final = re.compile(
    r"ACTIONS_(ID_TOKEN_REQUEST|RUNTIME)_|(.*_)?(TOKEN|JWT|SECRET|PASSWORD|PASSWD|PASSPHRASE|PIN|CREDENTIALS?|KEY)(_.*)?\Z"
)


def bare_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a process that only reads files: nothing that it does not need to start.

    Args:
        environ: what there is.
    """
    return {name: value for name, value in environ.items() if _BARE.match(name)}


def git_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for git: a bare one, and git's own variables and configuration.

    Args:
        environ: what there is.
    """
    return {name: value for name, value in environ.items() if _BARE.match(name) or _GIT.match(name)}


def is_secret(name: str) -> bool:
    """Tell whether a variable is one of ours or, by its name, holds a secret: a token, key or password.

    Args:
        name: of the variable.
    """
    return bool(_OURS.match(name) or _SECRETS.match(name))


def signing_environment(environ: Mapping[str, str], *, ask_for_token: bool) -> dict[str, str]:
    """Return the environment for the process that signs with Sigstore, which may open a browser.

    Args:
        environ: what there is.
        ask_for_token: whether the process asks the CI system for an identity token; it then needs what the systems use
            to give one.
    """
    return {
        name: value
        for name, value in environ.items()
        if not is_secret(name) or (ask_for_token and _TOKENS.match(name) is not None)
    }
