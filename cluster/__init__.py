"""Decides which instance serves. It comes with the next release."""
