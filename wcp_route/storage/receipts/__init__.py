"""Evidence receipts: one for every decision, chained, sealed in batches, durable before the decision is acknowledged.

with open_state("hall.db", signer=KeyFileSigner.from_file_bytes(pem)) as state:
    state.ledger.append([evidence])                          # returns when it is on disk

checked = verify("hall.db", keys=[public_key], head=kept_head)
print(checked.receipts, "receipts in", checked.streams, "streams")
"""

from wcp_route.storage.receipts.check import Checked
from wcp_route.storage.receipts.read import export, find, head, last, verify, verify_export
from wcp_route.storage.receipts.receipt import Receipt
from wcp_route.storage.receipts.sign import KeyFileSigner, ReceiptKey, ReceiptSigner
from wcp_route.storage.receipts.store import ReceiptStore, Waitable
from wcp_route.storage.state_errors import ReceiptError, ReceiptsBroken

__all__ = [
    "Checked",
    "KeyFileSigner",
    "Receipt",
    "ReceiptError",
    "ReceiptKey",
    "ReceiptSigner",
    "ReceiptStore",
    "ReceiptsBroken",
    "Waitable",
    "export",
    "find",
    "head",
    "last",
    "verify",
    "verify_export",
]
