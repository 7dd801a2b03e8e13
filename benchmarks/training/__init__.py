"""Full training of the same models by this project, by plain PyTorch and by other libraries."""
