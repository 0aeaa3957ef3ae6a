"""That a primary without a lease has no effect: the leases as a shared file, and the process that watches them."""
