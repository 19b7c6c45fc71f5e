"""The client of a worker registry, and the condition that asks it."""
