"""The same harm on a cluster that is deployed: over SSH and through its API, from the machine of an operator."""
