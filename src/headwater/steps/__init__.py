"""Folder in, folder out: one file a verb. The only floor where stages meet the disk.

embed       a pool -> vectors            retrieve, synthesize, perturb, importing -> a set
curate      a set -> a set               adapt, evaluate, predict -> models, predictions
label, sample; answers, labelled         a pool -> a page a person labels -> a split
calibrate   set, task -> a page that shows where copies begin
sets, exam  what several verbs share     novelty: near-copies; why: one pair's story
"""
