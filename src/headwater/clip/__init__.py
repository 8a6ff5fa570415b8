"""CLIP: a model opened from disk, and the features it gives for images and texts.

This is the only room that knows open_clip. Training on top of it lives in `adapt/`, the weight-free
copy descriptors in `descriptors/`.

A model is a folder: `open_clip_config.json`, `open_clip_model.safetensors`, the files of its
tokenizer if it has its own, and `head.safetensors` once it has been adapted to a task. open_clip
opens the same folder as `local-dir:FOLDER`.
"""

from headwater.clip.load import load_clip, load_head, untrained_clip
from headwater.clip.model import HEAD_NAME, Clip, Floats
from headwater.clip.pixels import Geometry, Images, Pixels, resize_images
from headwater.clip.source import CONFIG_NAME, WEIGHTS_NAME

__all__ = [
    "CONFIG_NAME",
    "HEAD_NAME",
    "WEIGHTS_NAME",
    "Clip",
    "Floats",
    "Geometry",
    "Images",
    "Pixels",
    "load_clip",
    "load_head",
    "resize_images",
    "untrained_clip",
]
