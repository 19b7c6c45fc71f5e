"""Fixtures of the tests of pages."""

from tests.chromium import browser  # noqa: F401  # a fixture
