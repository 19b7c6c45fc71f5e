"""Which certificate authorities are trusted for https, the same for ban lists, registries and signing.

    1. `ca_file` of the policy, or `--ca-file`
    2. `REQUESTS_CA_BUNDLE`: what the libraries of keyless signing read
    3. `SSL_CERT_FILE`: what OpenSSL reads
    4. the certificates of the system

Each is a file of PEM certificates, or a directory of them as `c_rehash` makes it. A name that is set and cannot be read
is an error: falling back to the system's would trust more than was asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


def certificates_named(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable that names the certificates to trust, and its value; two empty texts when none is set.

    Args:
        environ: the environment.
    """
    return next(((name, environ[name]) for name in VARIABLES if environ.get(name)), ("", ""))


def environment_for_requests(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what to add to the environment of a process that speaks https through `requests` or OpenSSL alone.

    Args:
        environ: the environment.

    Returns:
        Both variables with one value, so that every library in the process trusts the same certificates; empty when
        neither is set.
    """
    _, path = certificates_named(environ)
    return dict.fromkeys(VARIABLES, path) if path else {}


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts the certificates named, or those of the environment or system.

    Args:
        ca_file: PEM certificates, or None.

    Raises:
        ConfigError: what is named cannot be read, or holds no certificate.
    """
    import ssl

    variable, path = ("", ca_file) if ca_file is not None else certificates_named(os.environ)
    if not path:
        return ssl.create_default_context()
    whose = f" ({variable})" if variable else ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if os.path.isdir(path):
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"the certificates of {path!r}{whose} cannot be read: {problem}") from None
    return context
