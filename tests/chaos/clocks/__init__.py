"""Clocks that can be set for one node alone."""
