"""What a generator makes of a task, or of a set: captions, painted images, perturbed images.

captions      a task, or a set of it -> captions
backgrounds   a task -> the same task with backgrounds for its classes
synthesize    captions -> a set
perturb       a set -> a set
"""
