"""The other side of the question: class names -> prompts -> images, and images perturbed.

`captions.py` writes prompts, `images.py` lets a generator draw them, and `perturb.py` sends
existing images through the same generator, noised and denoised. Folders, shards and sets are
the business of `headwater/steps/`.
"""
