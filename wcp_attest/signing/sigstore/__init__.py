"""Keyless signatures: making them, reading them, and what a verification rests on."""
