"""The only room with ctypes: one file per kernel interface, errno translated at its edge."""
