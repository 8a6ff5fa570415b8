"""Copy descriptors: a unit row for an image; the inner product of two tells copies.

builtin.py is the one that needs no weights.
"""

from headwater.descriptors.builtin import COPY_THRESHOLD, describe

__all__ = ["COPY_THRESHOLD", "describe"]
