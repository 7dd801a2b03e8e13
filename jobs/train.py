"""Trains one candidate on the whole log, by several workers; takes the options of `diet train`.

ray job submit --working-dir . -- python jobs/train.py …
"""

from diet_ray.cli import main

if __name__ == "__main__":
    main("train")
