"""A CLIP so small that a test can build it: 32 px, a few thousand weights, random, for a seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from headwater.clip import Clip, untrained_clip

torch.set_num_threads(1)  # a model this small loses more to waiting for threads than it gains

VISION = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16}
TEXT = {"context_length": 16, "width": 16, "heads": 2, "layers": 1}
CONFIG = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}


def tiny_clip(seed: int = 0) -> Clip:
    return untrained_clip(CONFIG, seed=seed)


def save_tiny_clip(folder: Path, seed: int = 0) -> Path:
    """Write the model as open_clip's `local-dir:` and return the folder."""
    tiny_clip(seed).save(folder)
    return folder


def tinted_images(n: int, *, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a tint per class, uint8 (n, 32, 32, 3), and labels: a task one can picture."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    tints = np.random.default_rng(99).integers(60, 196, (classes, 1, 1, 3))
    noise = generator.normal(0, 40, (n, 32, 32, 3))
    return np.clip(tints[labels] + noise, 0, 255).astype(np.uint8), labels
