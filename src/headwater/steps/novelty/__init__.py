"""How new a set is to a pool: which of its images the pool has already, and a set of the others.

novelty    the verb: a set, a pool -> the nearest pool image of each image, and how new that is
"""
