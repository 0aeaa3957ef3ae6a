"""Several nodes around the real pure cores, under one virtual clock; checkers that know nothing of them."""
