"""Benchmarks: tunesmith beside the tools people use today, on the same rows."""
