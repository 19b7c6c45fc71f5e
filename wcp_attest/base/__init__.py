"""What everything else is made of: errors, strict JSON and TOML, digests, ids. It touches no file and no network."""
