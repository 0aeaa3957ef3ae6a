"""Tests of deploy/monitoring; `make monitoring` is the part that needs Prometheus."""
