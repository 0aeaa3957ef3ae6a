"""The face: the command line, the demo, and the entry points that put the rooms together."""
