"""`kagemusha demo`: a running redis-server is killed, and goes on in another process on another node."""
