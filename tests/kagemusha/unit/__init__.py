"""Tests of adopting systemd services."""
