"""`make test-deploy`: the playbooks, on machines that boot: docs/deploy.md says what is tried."""
