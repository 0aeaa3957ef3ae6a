"""Which pages there are, which of them changed, and the agent's own copy of them."""
