"""What plain defaults give beside the best of a grid of rates and epochs: ``python -m benchmarks.defaults``."""
