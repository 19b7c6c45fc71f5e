"""The formats: bytes to values and back. No file, clock or network is touched here."""
