"""Bytes and peers: frames, checkpoints as values, the stream between agents, control sockets. Knows no processes."""
