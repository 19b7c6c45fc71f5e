"""Rules, and the proof of which of them can match."""
