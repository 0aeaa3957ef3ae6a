"""Named data structures of a native program: found, understood, captured, and written into a warm mirror."""
