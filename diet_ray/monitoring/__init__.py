"""Who watches a run besides its progress bar: a status file, Ray's metrics, experiment trackers."""
