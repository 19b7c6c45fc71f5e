"""Package trees: the only room that opens files. Read one, check one against its manifest, read and replace files."""
