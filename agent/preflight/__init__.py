"""What of a program or of a node can't be mirrored, found out before anything starts."""
