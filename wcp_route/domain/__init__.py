"""The words everything else uses: requests, records, decisions, codes, and their canonical forms."""
