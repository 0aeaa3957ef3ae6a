"""The program as its tracer sees it: stopped as a whole and resumed, watched in between, lent for a system call."""
