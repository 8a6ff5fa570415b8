"""A set -> the set of its best pairs; every pair that falls leaves its reason.

curate      the verb                     settings    what it may be told: scores and rules
prepare     each shard: pixels, scores   judge       the whole set: rule after rule
candidates  what was found out           result      what is written of it
copies      how copies are told          rejections  what a person marked as bad
refusals    what cannot be curated

What a score, a copy, the pixel path are is told in `headwater.curate`.
"""
