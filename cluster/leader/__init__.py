"""What the leader decides: who has failed, who is fenced, who continues, who mirrors. Pure; `failover` is the head."""
