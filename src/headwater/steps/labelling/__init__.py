"""A pool -> a page on which a person labels a sample -> a split of the task.

page     the page           sample  which pictures are on it
answers  what came back     split   the images of those answers, one folder a class
"""
