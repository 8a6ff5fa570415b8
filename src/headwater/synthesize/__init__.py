"""The other side of the question: class names -> prompts -> images, and images perturbed.

`captions/` writes prompts, `generator.py` opens a generator, `images.py` lets it draw them, and
`perturb.py` sends existing images through it, noised and denoised. Folders, shards and sets are the
business of `headwater/steps/`.
"""
