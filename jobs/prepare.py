"""Turns a log's raw files into Parquet by day; takes the options of `diet prepare`.

ray job submit --working-dir . -- python jobs/prepare.py …
"""

from diet_ray.cli import main

if __name__ == "__main__":
    main("prepare")
