"""The side that serves: takes checkpoints and publishes what changed to any number of mirrors."""
