"""One file per command. Each is thin: it reads options, calls the room that does the work, and shows the result."""
