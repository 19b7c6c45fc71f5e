"""What helps a person and decides nothing: differences from a cache, git, the reach of a ban, project settings."""
