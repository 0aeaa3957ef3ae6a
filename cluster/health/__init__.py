"""Whether this node's primaries still serve: checks, the verdict on their results, and whoever runs them."""
