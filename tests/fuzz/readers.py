"""Every reader of files, by name."""

from __future__ import annotations

from tests.fuzz import arrivals, configurations, memories, results, trainings, written_logs

READERS = (
    *configurations.READERS,
    *arrivals.READERS,
    *written_logs.READERS,
    *memories.READERS,
    *trainings.READERS,
    *results.READERS,
)
