"""The daemon of a node: its links, its orders and answers, and the runner that performs what the pure rooms decide."""
