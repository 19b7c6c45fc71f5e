"""Your own certificate authorities, as behind a proxy that opens TLS. Two variables have one meaning.

OpenSSL, and with it ban lists and registries, reads `SSL_CERT_FILE`; `requests`, and with it signing with Sigstore,
reads `REQUESTS_CA_BUNDLE`. Set one of them, and every connection uses it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping


_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def own_authorities(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make every library read the authorities that one of them names.

    Args:
        environ: an environment. `SSL_CERT_FILE` goes before `REQUESTS_CA_BUNDLE` where both are set; the latter may
            also be a directory, which OpenSSL knows as `SSL_CERT_DIR`.

    Returns:
        What to set; nothing when neither is set.
    """
    file, bundle = environ.get("SSL_CERT_FILE", ""), environ.get("REQUESTS_CA_BUNDLE", "")
    if file:
        return {"REQUESTS_CA_BUNDLE": file}
    if bundle:
        return {"SSL_CERT_DIR" if os.path.isdir(bundle) else "SSL_CERT_FILE": bundle}
    return {}


def authority_files(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files and directories of certificates that an environment names, for any of the libraries used here.

    Args:
        environ: an environment.
    """
    return tuple(path for name in _VARIABLES if (path := environ.get(name)))


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts the authorities named: by the caller, by the environment, or by the system.

    What is named and cannot be read is an error: falling back to the system's would trust more than was asked for.

    Args:
        ca_file: PEM certificates, or None.

    Raises:
        ConfigError: what is named cannot be read, or holds no certificate.
    """
    import ssl

    named = [("", ca_file), *((name, os.environ.get(name)) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"))]
    variable, path = next(((name, path) for name, path in named if path), ("", None))
    if path is None:
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
