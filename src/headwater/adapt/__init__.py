"""Training CLIP on a set: everything takes and gives arrays.

head.py      class texts -> the starting head      finetune.py  images, labels -> a trained model
probe.py     features -> a linear probe
"""
