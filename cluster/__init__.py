"""Decides which instance serves: a Raft group agrees on the registry, its leader watches, fences and promotes."""
