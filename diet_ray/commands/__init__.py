"""Commands of the command line, one file each; `diet_ray.cli` registers them."""
