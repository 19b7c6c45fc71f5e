"""Your own certificate authorities, as behind a proxy that opens TLS. Two variables have one meaning.

OpenSSL, and with it ban lists and registries, reads `SSL_CERT_FILE`; `requests`, and with it signing with Sigstore,
reads `REQUESTS_CA_BUNDLE`. Set one of them, and every connection uses it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.files import blame

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping


_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def own_authorities(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make every library read the authorities that one of them names.

    Args:
        environ: an environment, as `os.environ`. `SSL_CERT_FILE` goes before `REQUESTS_CA_BUNDLE` where both are set;
            the latter may also be a directory, which OpenSSL knows as `SSL_CERT_DIR`.

    Returns:
        Variables to set, with their values; empty when neither is set.
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
        environ: an environment, as `os.environ`.

    Returns:
        The paths as they are spelled there, without a check that they exist.
    """
    return tuple(path for name in _VARIABLES if (path := environ.get(name)))


def check_authorities() -> None:
    """Refuse the certificates that the environment names and that cannot be read, before a library reads them itself.

    A library may wait for a pipe without end, and says of a missing file only that TLS failed.

    Raises:
        ConfigError: as `tls_context`.
        MachineError: this machine cannot read them.
    """
    if authority_files(os.environ):
        tls_context(None)


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts the authorities named: by the caller, by the environment, or by the system.

    What is named and cannot be read is an error: with the system's authorities instead, the connection would trust more
    than was asked for.

    Args:
        ca_file: path of PEM certificates, or of a directory of them as OpenSSL reads it (`SSL_CERT_DIR`). None reads
            the environment, and then the system's.

    Returns:
        A context for clients: it checks certificates and host names.

    Raises:
        ConfigError: what is named is missing, unreadable, neither a file nor a directory, or holds no certificate.
        MachineError: this machine cannot read it.
    """
    import ssl

    named = [("", ca_file), *((name, os.environ.get(name)) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"))]
    variable, path = next(((name, path) for name, path in named if path), ("", None))
    if path is None:
        return ssl.create_default_context()
    whose = f" ({variable})" if variable else ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            context.load_verify_locations(capath=path)
        elif stat.S_ISREG(mode):  # OpenSSL would wait for a pipe, and read a device without end
            context.load_verify_locations(cafile=path)
        else:
            raise ConfigError(f"{path!r}{whose} is neither a file nor a directory of certificates")
    except ssl.SSLError as problem:
        raise ConfigError(f"{path!r}{whose} holds no certificate in PEM form: {problem.reason or problem}") from None
    except (OSError, ValueError) as problem:
        said = f"the certificates of {path!r}{whose} cannot be read: {describe_os_error(problem)}"
        raise blame(problem, ConfigError)(said) from None
    return context
