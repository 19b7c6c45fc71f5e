"""What holds for every test: how many examples hypothesis draws (`tests/drawn.py`)."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.drawn import PROFILE, examples

# Only the nightly run keeps failures for later runs: each example costs a look at the database.
kept = DirectoryBasedExampleDatabase(".hypothesis/examples") if PROFILE == "nightly" else None
settings.register_profile(PROFILE, deadline=None, max_examples=examples(), database=kept)
settings.load_profile(PROFILE)
