"""Agreement: one Raft member per node, built on pysyncobj, which nothing outside of this room may import.

`member.Member` is what others use. See docs/raft.md.
"""
