"""The Hall's state: who is enrolled, what waits for a human, and the receipts."""
