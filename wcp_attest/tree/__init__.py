"""Files and directories: the only part of the core that touches the file system."""
