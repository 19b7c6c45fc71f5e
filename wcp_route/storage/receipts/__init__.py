"""Evidence receipts: one for every decision, chained, sealed in batches, durable before the decision is acknowledged.

with SqliteReceipts("hall.db", signer=KeyFileSigner.from_file_bytes(pem)) as receipts:
    receipts.append([evidence])                          # returns when it is on disk

checked = verify("hall.db", keys=[public_key], head=kept_head)
print(checked.receipts, "receipts in", checked.streams, "streams")
"""

from wcp_route.storage.receipts.check import Checked
from wcp_route.storage.receipts.read import export, find, head, last, verify, verify_export
from wcp_route.storage.receipts.receipt import Receipt, ReceiptError, ReceiptsBroken
from wcp_route.storage.receipts.sign import KeyFileSigner, ReceiptKey, ReceiptSigner
from wcp_route.storage.receipts.store import MemoryReceipts, ReceiptStore, SqliteReceipts

__all__ = [
    "Checked",
    "KeyFileSigner",
    "MemoryReceipts",
    "Receipt",
    "ReceiptError",
    "ReceiptKey",
    "ReceiptSigner",
    "ReceiptStore",
    "ReceiptsBroken",
    "SqliteReceipts",
    "export",
    "find",
    "head",
    "last",
    "verify",
    "verify_export",
]
