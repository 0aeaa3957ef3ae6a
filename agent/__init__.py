"""The process beside one instance: captures a program, or keeps its double ready. Knows nothing of who may serve."""

import os

# Before anything imports numpy, whose OpenBLAS would start threads at once: they block no signals, so that a SIGCHLD
# which comes while the tracer thread is not waiting for one goes to them, and is lost.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
