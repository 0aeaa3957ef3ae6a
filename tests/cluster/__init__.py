"""Tests of the cluster rooms."""
