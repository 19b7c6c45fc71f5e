"""A Sigstore instance on loopback, for tests: identity provider, Fulcio, certificate log, Rekor v1 and v2, TSA, TUF.

Everything that a *client* checks is real: X.509 issuance with an intermediate, certificate timestamps over the
precertificate, RFC 6962 trees with inclusion proofs, signed checkpoints, inclusion promises, CMS-signed RFC 3161
tokens, TUF metadata. What is not: keys live in memory, nobody can read the logs, and there are no witnesses.

    with LoopbackSigstore() as instance:
        config = ClientTrustConfig.from_json(json.dumps(instance.client_trust_config(rekor=2)))
        token = IdentityToken(instance.token(**github_claims("acme/worker")))
        with SigningContext.from_trust_config(config).signer(token) as signer:
            bundle = signer.sign_dsse(statement)
        with instance.failing(Fault.REKOR_HANGS):
            …

The tests of this package show that clients which others wrote accept it, and notice each of its faults.
"""

from tests.loopback_sigstore.ci_claims import github_claims, gitlab_claims
from tests.loopback_sigstore.faults import Fault
from tests.loopback_sigstore.instance import DIRECT, LoopbackSigstore
from tests.loopback_sigstore.trust import Json, Pinned, Window

__all__ = ["DIRECT", "Fault", "Json", "LoopbackSigstore", "Pinned", "Window", "github_claims", "gitlab_claims"]
