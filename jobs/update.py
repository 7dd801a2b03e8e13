"""Adds a new day's log to a memory; takes the options of `diet update`.

ray job submit --working-dir . -- python jobs/update.py …
"""

from diet_ray.cli import main

if __name__ == "__main__":
    main("update")
