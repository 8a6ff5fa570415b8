"""Images made elsewhere -> a set like any other.

importing    the verb: a folder, a task -> a set

The class a folder means is told in `headwater.splits`.
"""

from headwater.steps.importing.importing import import_images, read_captions

__all__ = ["import_images", "read_captions"]
