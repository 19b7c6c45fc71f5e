"""Certificate authorities of one's own, as behind a proxy that opens TLS: two variables, one meaning.

OpenSSL, and with it ban lists and registries, reads `SSL_CERT_FILE`; `requests`, and with it signing with Sigstore,
reads `REQUESTS_CA_BUNDLE`. A user sets one of them and means every connection.
"""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


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
