"""Killing, delaying, duplicating and lying, by a seed that replays it.

`schedule` says from a seed what goes wrong and when; `channel` does it to messages, `disk` and
`filesystem` to storage, `host` to the memory's process; `in_process` runs one schedule and holds
the outcome against the undisturbed run, `cluster` does so with real processes on a local cluster.
`python -m tests.chaos` runs many.
"""
