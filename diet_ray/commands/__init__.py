"""Commands of `diet`, a file each; `cli` registers them."""
