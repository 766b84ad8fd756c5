"""The benchmarks: a few lines each."""
