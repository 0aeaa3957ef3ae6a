"""A second process that reads beside the tracer at a stop: the memory, and what the kernel says of connections."""
