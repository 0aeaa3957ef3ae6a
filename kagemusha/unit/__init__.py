"""A systemd service as a program.toml: read, translated, and what of it is lost in translation."""
