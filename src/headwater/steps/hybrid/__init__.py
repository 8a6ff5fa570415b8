"""Synthesize only what cannot be retrieved: where a pool has few, and how a set is topped up there.

composition   a pool -> captions per class and attribute
top_up        two sets -> the first, with images of the second where it has few
"""
