"""A set -> the set of its best pairs; every pair that falls leaves its reason.

curate      the verb                     settings    what it may be told: scores and rules
prepare     each shard: pixels, scores   judge       the whole set: rule after rule
candidates  what was found out           rejections  what a person marked as bad

What a score, a copy, the pixel path are is told in `headwater.curate`.
"""
