"""A CLIP model in memory: the features it gives for images and texts, and how it is saved."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch user knows it by
from open_clip.transform import PreprocessCfg
from safetensors.torch import save_file
from torch import Tensor

from headwater.clip.pixels import Geometry, Images, Pixels, resize_images
from headwater.clip.precision import computing
from headwater.clip.source import CONFIG_NAME, WEIGHTS_NAME
from headwater.clip.texts import encode_tokens, tokenize
from headwater.prompts import fill
from headwater.store import digest_file, digest_value, replacing, write_bytes

HEAD_NAME = "head.safetensors"

BATCH = (32, 256)
"""Images at a time on a CPU and on a GPU. Two cores encode no faster with more than 32 (ViT-B-32:
37 images/s with 16 or 32, 32 with 256), and the last batch is filled up."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Clip:
    """A CLIP model with all that belongs to it. Made by `load_clip` or `untrained_clip`.

    Attributes:
        model: the open_clip network, float32.
        tokenizer: texts -> token ids (n, context).
        config: open_clip's `model_cfg`.
        preprocess: open_clip's `preprocess_cfg`: size, mean, std, how to resize.
        digest: sha256 of the weights file; None for a model that is not on disk.
        tokenizer_files: name -> bytes of the tokenizer's own files, empty for the built-in one.
    """

    model: Any
    tokenizer: Any
    config: dict[str, Any]
    preprocess: PreprocessCfg
    digest: str | None = None
    tokenizer_files: dict[str, bytes] = field(default_factory=dict)

    @property
    def image_size(self) -> int:
        """Side of the square the image encoder takes, in pixels."""
        size = self.preprocess.size
        return int(size[0] if isinstance(size, (tuple, list)) else size)

    @property
    def geometry(self) -> Geometry:
        """How an image of any size becomes the square the image encoder takes."""
        preprocess = self.preprocess
        return Geometry(self.image_size, preprocess.resize_mode, preprocess.interpolation)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean per channel, for pixels from 0 to 1."""
        return tuple(self.preprocess.mean)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation per channel, for pixels from 0 to 1."""
        return tuple(self.preprocess.std)

    @property
    def dim(self) -> int:
        """Length of a feature."""
        return int(self.config["embed_dim"])

    @property
    def logit_scale(self) -> float:
        """The log of the factor on cosines, as open_clip stores it."""
        return float(self.model.logit_scale.detach())

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.model.logit_scale.device
        return device

    def resize(self, images: Images) -> Pixels:
        """Images of any size at this model's input size: uint8 (n, size, size, 3)."""
        return resize_images(images, **self.geometry._asdict())

    def pixels(self, images: Pixels | Tensor) -> Tensor:
        """What the encoder takes: uint8 (n, size, size, 3) -> normalized (n, 3, size, size)."""
        batch = images if isinstance(images, Tensor) else torch.tensor(images)
        batch = batch.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255)
        mean, std = (
            torch.tensor(v, device=self.device).view(3, 1, 1) for v in (self.mean, self.std)
        )
        return batch.sub_(mean).div_(std)

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token ids (n, context) of texts; whatever is too long is cut."""
        return tokenize(self.tokenizer, texts)

    def encode_pixels(self, images: Pixels | Tensor) -> Tensor:
        """Features (n, d), float32 and L2-normalized, of one batch of uint8 (n, size, size, 3).

        It stays on the model's device; precision and gradients are the caller's (`computing`).
        """
        return F.normalize(self.model.encode_image(self.pixels(images)).float(), dim=-1)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Features (n, d), float32 and not normalized, of one batch of token ids (n, context)."""
        return encode_tokens(self.model, tokens.to(self.device, non_blocking=True)).float()

    @property
    def features_digest(self) -> str | None:
        """What decides the features of an image, as one digest; None for a model not on disk.

        Besides the weights: the architecture, how an image is prepared, and what computes.
        """
        if self.digest is None:
            return None
        computes = [self.device.type, torch.__version__]
        return digest_value([self.digest, self.config, asdict(self.preprocess), computes])

    @property
    def batch_size(self) -> int:
        """Images that `encode_images` encodes at a time on this model's device."""
        return BATCH[self.device.type != "cpu"]

    def encode_images(self, images: Images, batch_size: int | None = None) -> Floats:
        """Features of images of any size: (n, d) float32, L2-normalized.

        An image gets the same bits whatever is encoded with it, on the same number of threads:
        all batches are of one size, the last filled up, for libraries add up in another order
        when a batch is of another size.

        Args:
            images: see `resize_images`.
            batch_size: images at a time; by default `self.batch_size`.
        """
        self.model.eval()
        size = batch_size or self.batch_size
        features = np.zeros((len(images), self.dim), np.float32)
        batch = np.zeros((size, self.image_size, self.image_size, 3), np.uint8)
        for start in range(0, len(images), size):
            pixels = self.resize(images[start : start + size])
            batch[: len(pixels)] = pixels
            with computing("float32", self.device):
                made = self.encode_pixels(batch)
            features[start : start + size] = made[: len(pixels)].cpu().numpy()
        return features

    def encode_texts(
        self, texts: Sequence[str], *, normalize: bool = False, batch_size: int = 256
    ) -> Floats:
        """Features of texts: (n, d) float32, as the tower gives them unless `normalize`."""
        self.model.eval()
        features = np.zeros((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), batch_size):
            rows = slice(start, start + batch_size)
            with computing("float32", self.device):
                batch = self.encode_tokens(self.tokens(texts[rows]))
                features[rows] = (F.normalize(batch, dim=-1) if normalize else batch).cpu().numpy()
        return features

    def class_text_features(self, names: Sequence[str], templates: Sequence[str]) -> Floats:
        """Un-normalized text features of every class in every template: (classes, templates, d)."""
        texts = [fill(template, name) for name in names for template in templates]
        return self.encode_texts(texts).reshape(len(names), len(templates), self.dim)

    def copy(self) -> Clip:
        """The same model with weights of its own, so that training leaves this one alone."""
        return replace(self, model=deepcopy(self.model), digest=None)

    def save(
        self,
        folder: str | Path,
        *,
        head: Floats | None = None,
        labels: Sequence[str] | None = None,
    ) -> str:
        """Write the model, and its head if it has one, to a folder; return the weights' digest.

        Args:
            folder: made if it is not there. open_clip opens it as `local-dir:FOLDER`.
            head: (classes, d), goes to `head.safetensors`.
            labels: the label of each of the head's rows, kept with the head.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"model_cfg": self.config, "preprocess_cfg": self._preprocess_config()}
        files = {CONFIG_NAME: json.dumps(config, indent=2).encode(), **self.tokenizer_files}
        for name, content in files.items():
            write_bytes(folder / name, content)
        if head is not None:
            _save_head(folder / HEAD_NAME, head, labels)
        weights = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
        with replacing(folder / WEIGHTS_NAME) as path:
            save_file(weights, path)
        return digest_file(folder / WEIGHTS_NAME)

    def _preprocess_config(self) -> dict[str, Any]:
        kept = ("mean", "std", "interpolation", "resize_mode", "fill_color")
        return {name: getattr(self.preprocess, name) for name in kept}


def _save_head(path: Path, head: Floats, labels: Sequence[str] | None) -> None:
    tensor = torch.tensor(head, dtype=torch.float32)
    with replacing(path) as beside:
        save_file({"weight": tensor}, beside, {"labels": json.dumps(list(labels or []))})
