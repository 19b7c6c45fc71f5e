"""Route only to attested workers."""
