"""The Hall's state: the enrolled workers, the requests that wait for a human, and the receipts."""
