"""Images made elsewhere -> a set like any other.

importing    the verb                          folders    images in folders, one a class
forms        which form they have              beside     captions and metadata beside them
samples      what every reader gives           tars       WebDataset
labels       which label each class gets       tables     Parquet, and `datasets` on disk
"""

from headwater.steps.importing.beside import read_captions
from headwater.steps.importing.importing import import_images

__all__ = ["import_images", "read_captions"]
