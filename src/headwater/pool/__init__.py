"""The pool: the upstream collection of image-text pairs, as shards, in a layout people have.

layouts.py    which files are which shard            tables.py    rows under Headwater's names
sources.py    what the rows are read from            images.py    bytes of the wanted images
vectors.py    embeddings beside the rows             tars.py      files of a tar, as a stream
arrays.py     .npy and .npz, by position             describe.py  what a pool is, in a few facts

Nothing is converted and nothing is ever written into a pool. docs/formats.md tells the layouts.
"""

from headwater.pool.arrays import FileArray
from headwater.pool.describe import describe
from headwater.pool.images import come_first, has_images, read_images
from headwater.pool.layouts import LAYOUTS, Pool, PoolShard, open_pool
from headwater.pool.tables import ALIASES, count_rows, find_rows, iter_captions, read_table
from headwater.pool.vectors import metadata_path, read_vectors, vector_models

__all__ = [
    "ALIASES",
    "LAYOUTS",
    "FileArray",
    "Pool",
    "PoolShard",
    "come_first",
    "count_rows",
    "describe",
    "find_rows",
    "has_images",
    "iter_captions",
    "metadata_path",
    "open_pool",
    "read_images",
    "read_table",
    "read_vectors",
    "vector_models",
]
