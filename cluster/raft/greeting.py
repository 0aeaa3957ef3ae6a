"""Whether a peer's Hello is one of this group: same cluster, same configuration, another node than this one. Pure."""

from __future__ import annotations

from cluster.raft.wire import Hello


def objection(ours: Hello, theirs: Hello, peer: str) -> str:
    """Return why `theirs`, from the node with the certificate of `peer`, is not accepted; "" if it is.

    One line, in words that are true for whoever reads it, on either side.
    """
    if theirs.format != ours.format:
        return f"node {peer} speaks raft format {theirs.format}, node {ours.node} format {ours.format}"
    if theirs.node != peer:
        return f"a daemon with the certificate of node {peer} calls itself {theirs.node}"
    if theirs.cluster != ours.cluster:
        return f"node {peer} is of cluster {theirs.cluster!r}, node {ours.node} of {ours.cluster!r}"
    if theirs.epoch != ours.epoch:
        return f"node {peer} has configuration epoch {theirs.epoch}, node {ours.node} has {ours.epoch}"
    if theirs.members != ours.members:
        return (
            f"node {peer} has the members {', '.join(theirs.members)}, "
            f"node {ours.node} has {', '.join(ours.members)}, in the same epoch {ours.epoch}"
        )
    if peer == ours.node:
        return f"two daemons run as node {peer}"
    if peer not in ours.members:
        return f"node {peer} is no member of cluster {ours.cluster!r}"
    return ""


def elsewhere(ours: Hello, theirs: Hello, peer: str) -> str:
    """Return why one that has no objection to it otherwise is not accepted: it has other places for the members; or
    ""."""
    if theirs.layout == ours.layout:
        return ""
    return f"[[nodes]] differ between node {peer} and node {ours.node}, in the same epoch {ours.epoch}"


def duplicate(peer: str, where: str) -> str:
    """Return the line for a second daemon with the id of a node that is connected already, from `where`."""
    return f"two daemons run as node {peer}: one is connected from {where}"
