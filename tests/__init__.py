"""Tests mirror the packages: tests/agent tests agent/, and so on."""

import agent as agent  # Before numpy: see there.
