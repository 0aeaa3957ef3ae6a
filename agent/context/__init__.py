"""What is mirrored, one file per kind of resource: its record, how it is captured, prepared and activated."""
