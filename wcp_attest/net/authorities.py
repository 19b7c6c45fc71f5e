"""Your own certificate authorities, as behind a proxy that opens TLS. Three variables have one meaning.

OpenSSL, and with it ban lists and registries, reads `SSL_CERT_FILE`; `requests`, and with it signing with Sigstore,
reads `REQUESTS_CA_BUNDLE`, and else `CURL_CA_BUNDLE`. Set one of them, and every connection uses it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.files import blame

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

_FILES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")  # the first one that is set counts
_FOLDERS: Final = "SSL_CERT_DIR"  # directories, as in PATH; OpenSSL reads it beside its file


def own_authorities(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make every library read the authorities that one of them names.

    Args:
        environ: an environment, as `os.environ`. Of the three variables, the first one that is set counts. The path may
            also be a directory, which OpenSSL knows as `SSL_CERT_DIR`.

    Returns:
        Variables to set, with their values; empty when none of the three is set.
    """
    path = next((environ[name] for name in _FILES if environ.get(name)), "")
    if not path:
        return {}
    if environ.get("SSL_CERT_FILE"):
        return {"REQUESTS_CA_BUNDLE": path}
    return {_FOLDERS if os.path.isdir(path) else "SSL_CERT_FILE": path}


def authority_files(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the files and directories of certificates that an environment names, for any of the libraries used here.

    Args:
        environ: an environment, as `os.environ`.

    Returns:
        The paths as they are spelled there, without a check that they exist.
    """
    folders = environ.get(_FOLDERS, "").split(os.pathsep)
    return tuple(path for path in (*map(environ.get, _FILES), *folders) if path)


def check_authorities() -> None:
    """Refuse the certificates that the environment names and that cannot be read, before a library reads them itself.

    A library may wait for a pipe without end, and says of a missing file only that TLS failed.

    Raises:
        ConfigError: as `tls_context`.
        MachineError: this machine cannot read them.
    """
    if authority_files(os.environ):
        tls_context(None)
        _check_folders()


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

    path = ca_file or next((os.environ[name] for name in _FILES if os.environ.get(name)), None)
    if path is None:
        _check_folders()
        try:
            return ssl.create_default_context()
        except OSError as problem:  # beside certificates, it opens the log of keys that a variable asks for
            said = (
                f"{os.environ.get('SSLKEYLOGFILE')!r} (SSLKEYLOGFILE) cannot be written: {describe_os_error(problem)}"
            )
            raise blame(problem, ConfigError)(said) from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Several variables may hold it: `own_authorities` gives all of them the value of the one that you set.
    whose = "" if ca_file else f" ({' or '.join(name for name in _FILES if os.environ.get(name) == path)})"
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            os.stat(os.path.join(path, os.curdir))  # OpenSSL takes one that cannot be entered for an empty one
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


def _check_folders() -> None:
    """Refuse an `SSL_CERT_DIR` of which no part is a directory. One that is missing beside others is usual."""
    named = [path for path in os.environ.get(_FOLDERS, "").split(os.pathsep) if path]
    wrong = next((path for path in named if os.path.exists(path) and not os.path.isdir(path)), None)
    if wrong is not None:  # OpenSSL opens it as a file, and waits for a pipe
        raise ConfigError(f"{wrong!r} ({_FOLDERS}) is not a directory of certificates")
    problems = []
    for path in named:
        try:
            os.stat(os.path.join(path, os.curdir))
        except (OSError, ValueError) as problem:
            problems.append(problem)
    if problems and len(problems) == len(named):
        said = f"the certificates of {named[0]!r} ({_FOLDERS}) cannot be read: {describe_os_error(problems[0])}"
        raise blame(problems[0], ConfigError)(said)
