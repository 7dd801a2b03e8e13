"""Scores every row of a log by its influence; takes the options of `diet score`.

ray job submit --working-dir . -- python jobs/score.py …
"""

from diet_ray.cli import main

if __name__ == "__main__":
    main("score")
