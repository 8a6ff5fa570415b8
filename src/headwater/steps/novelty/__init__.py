"""How new a set is to a pool: which of its images the pool has already, and a set of the others.

novelty    the verb: a set, a pool -> the nearest pool image of each image, and how new that is
looks      images as a copy descriptor or CLIP sees them     nearest    the search, shard by shard
carrier    whose vectors a pool has      sample    where near begins      origins    the same URL
page       the pairs to look at          subset    a set of the images that are as new as is said
"""
