"""Harm, one kind a class, in an order of rising effort. Each begins, says whether it had an effect, and is healed."""
