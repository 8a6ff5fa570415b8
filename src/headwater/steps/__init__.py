"""Folder in, folder out: one file a verb. The only floor where stages meet the disk.

embed       a pool -> vectors            retrieve, synthesis, importing -> a set
curation/   a set -> its best pairs      adapt, evaluate, predict -> models, predictions
looking/    a set -> pages, stories      labelling/  a pool -> a page -> a split
leaks, agreement    before training      novelty/    a set, a pool -> how new its images are
sets, exam, described, settings, pairlist, thumbnails   what several verbs share
"""
