"""What a node counts and tells of itself: the table of all metrics, and the counters between two looks at them."""
