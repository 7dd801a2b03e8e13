"""Proposing a schema for a table that nobody has described yet."""
