"""Curate: the best pairs of a set, none of them a copy of an evaluation image.

score.py tells how well an image fits its class, select.py keeps the best of each class and says why
the others go, copies.py and duplicates.py find copies by their descriptors (../descriptors),
safety.py reads the pool's own NSFW tags. Arrays in, arrays out; folders are the business of
../steps/curation/curate.py.
"""
