"""Searches architectures on a distilled dataset; takes the options of `diet search`.

ray job submit --working-dir . -- python jobs/search.py …
"""

from diet_ray.cli import main

if __name__ == "__main__":
    main("search")
