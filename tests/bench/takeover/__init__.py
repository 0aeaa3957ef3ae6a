"""What clients see of every kind of takeover, with kagemusha and with its peers, on the same machines."""
