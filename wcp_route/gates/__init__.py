"""The gates in their order, and whom they ask."""
