"""Tests mirror the packages: tests/agent tests agent/, and so on."""
