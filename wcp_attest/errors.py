"""The public face of `wcp_attest.base.errors`: what can be raised, and the deny codes."""

from wcp_attest.base.errors import *  # noqa: F403  # every error is public
