"""Bytes and peers: frames, checkpoints as values, the stream between agents, control. Knows nothing of processes."""
