"""The gates in their order, and the callbacks and stores that they ask."""
