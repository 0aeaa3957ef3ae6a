"""Structures mode: the program lives on every node, and its named structures are carried from primary to mirrors.

`feed` (primary) and `intake` (mirror) decide; `instance` is what the controller sees.
"""
