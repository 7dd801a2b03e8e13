"""The parts of `benchmarks/influence.py`: kernels, slots, the pipeline, and what scale costs."""
