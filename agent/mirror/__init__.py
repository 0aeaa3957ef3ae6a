"""The side that follows: keeps a frozen process in step with the primary's program, and lets it go on in its place."""
