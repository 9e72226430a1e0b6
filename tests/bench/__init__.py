"""Benchmarks: `make bench`. Things that are compared run side by side in one run; no test asserts a figure."""
