"""The values that all other rooms use: requests, records, decisions, codes, and their canonical forms."""
