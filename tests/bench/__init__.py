"""Benchmarks: numbers, not verdicts. Not part of the test run."""
