"""Tests of what is counted and told of a node."""
