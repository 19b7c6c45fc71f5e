"""The environment of every process that we start: what it needs to run, and no secret.

A passphrase, a shared secret or the token of a CI job stands in the environment of the command that needs it. If a
child inherited it, then everybody who may read `/proc/PID/environ` of the child, and every program that the child
starts, would have it as well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a program of this machine needs to be found, to be loaded and to write its temporary files.
_BARE: Final = re.compile(r"(PATH|HOME|USER|LOGNAME|TMPDIR|TZ|LANG|SYSTEMROOT)\Z|LC_|LD_|DYLD_|NIX_")
_GIT: Final = re.compile(r"GIT_|XDG_CONFIG_HOME\Z")
_TOKENS: Final = re.compile(r"(ACTIONS_ID_TOKEN_REQUEST|BUILDKITE|CIRCLE)_|(SIGSTORE_ID_TOKEN)\Z")
# Variables of this toolkit, and those that by their name hold a token, a key or a password.
_SECRETS: Final = re.compile(
    r"WCP_(ATTEST|ROUTE)_|ACTIONS_(ID_TOKEN_REQUEST|RUNTIME)_"
    r"|(.*_)?(TOKEN|JWT|SECRET|PASSWORD|PASSWD|PASSPHRASE|PIN|CREDENTIALS?|KEY)(_.*)?\Z"
)


def bare_environment(environ: Mapping[str, str], *, git: bool = False) -> dict[str, str]:
    """Return the environment for a process that only reads files: nothing that it does not need to start.

    Args:
        environ: the environment of this process.
        git: whether the process is git, which also gets its own variables (`GIT_…`) and the place of its
            configuration.

    Returns:
        The variables that the process gets, with their values.
    """
    return {name: value for name, value in environ.items() if _BARE.match(name) or (git and _GIT.match(name))}


def signing_environment(environ: Mapping[str, str], *, ask_for_token: bool) -> dict[str, str]:
    """Return the environment for the process that signs with Sigstore, which may open a browser.

    Args:
        environ: the environment of this process.
        ask_for_token: whether the process asks the CI system for an identity token. It then also gets the variables by
            which these systems hand one out.

    Returns:
        Every variable but the secrets and those of this toolkit, with its value.
    """
    return {
        name: value
        for name, value in environ.items()
        if not _SECRETS.match(name) or (ask_for_token and _TOKENS.match(name))
    }
