"""The API of a node: HTTP for operators, their tools and the command line. It decides nothing, it asks `Cluster`."""
