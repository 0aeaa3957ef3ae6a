"""The verifier: every byte of a mirror's shadow against the stopped original, checkpoint after checkpoint."""
