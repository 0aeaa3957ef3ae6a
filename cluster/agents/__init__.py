"""The agents of this node's instances: started, found again, ordered about, and restarted when they die."""
