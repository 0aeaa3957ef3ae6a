"""What the nodes agree on: the values, the commands that change them, and the state machine that applies them. Pure."""
