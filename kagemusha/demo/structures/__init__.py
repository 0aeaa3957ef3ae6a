"""`kagemusha demo --structures`: two programs of which only the data that matters is mirrored, into warm instances."""
