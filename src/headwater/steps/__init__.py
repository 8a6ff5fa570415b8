"""Folder in, folder out: one file a verb. The only floor where stages meet the disk.

embed       a pool -> vectors            retrieve, synthesis, importing -> a set
curation/   a set -> its best pairs      adapt, evaluate, predict -> models, predictions
looking/    a set -> pages, stories      labelling/  a pool -> a page -> a split
leaks, agreement    before training      novelty     near-copies of a set in a pool
sets, exam, described, settings, pairlist, thumbnails   what several verbs share
"""
