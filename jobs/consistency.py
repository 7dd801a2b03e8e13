"""Checks the distilled ranking against full-data training; takes the options of `diet consistency`.

ray job submit --working-dir . -- python jobs/consistency.py …
"""

from diet_ray.cli import main

if __name__ == "__main__":
    main("consistency")
