"""The laboratory behind `benchmarks/ranking.py`: logs, candidates, full runs, methods, figures."""
