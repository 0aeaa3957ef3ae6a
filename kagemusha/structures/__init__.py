"""Mirror named data structures of a Python program to its warm mirrors."""
