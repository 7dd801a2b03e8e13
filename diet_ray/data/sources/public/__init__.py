"""Public logs, a file each: how its raw files are recognised, read, and turned into a log."""
