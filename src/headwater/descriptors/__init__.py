"""Copy descriptors: a unit row for a picture; the inner product of two rows tells copies.

builtin.py needs no weights. isc.py and sscd.py are networks with published weights: weights.py
knows where these are and what their bytes must be, network.py shows pictures to them. choose.py
opens one by name. Copies are looked for in ../curate/copies.py.
"""

from headwater.descriptors.builtin import COPY_THRESHOLD, describe
from headwater.descriptors.choose import NAMES, open_descriptor
from headwater.descriptors.descriptor import Descriptor

__all__ = ["COPY_THRESHOLD", "NAMES", "Descriptor", "describe", "open_descriptor"]
