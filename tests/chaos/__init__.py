"""Harm done to a real cluster by a seed, what was seen of it, and checkers that know only what was seen."""
