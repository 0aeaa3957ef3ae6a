"""Two nodes: the demo starts their agents itself and decides, by a small controller of its own, who serves."""
