"""The process beside one instance: captures a program, or keeps its double ready. Knows nothing of who may serve."""
