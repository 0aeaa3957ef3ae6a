"""Programs come into the world here, each in namespaces of its own; and one that runs already is found again."""
