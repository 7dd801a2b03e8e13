"""Distils a click log; takes the options of `diet distill`.

ray job submit --working-dir . -- python jobs/distill.py …
"""

from diet_ray.cli import main

if __name__ == "__main__":
    main("distill")
