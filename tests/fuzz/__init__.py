"""Fuzzing of every reader of files: what is refused, what is taken, and that neither harms."""
