"""CLIP: a model opened from disk, and the features it gives for images and texts.

This is the only file that knows open_clip. Training on top of it lives in `adapt/`, the weight-free
copy descriptor in `descriptor.py`.

A model is a folder: `open_clip_config.json`, `open_clip_model.safetensors`, the files of its
tokenizer if it has its own, and `head.safetensors` once it has been adapted to a task. open_clip
opens the same folder as `local-dir:FOLDER`.
"""

from __future__ import annotations

import difflib
import json
import pickle
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import open_clip
import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch user knows it by
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transform import PreprocessCfg, image_transform, merge_preprocess_dict
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchvision.transforms import Compose

from headwater.errors import InputError, ModelError
from headwater.prompts import fill
from headwater.store import digest_file, replacing, write_bytes

CONFIG_NAME = "open_clip_config.json"
WEIGHTS_NAME = "open_clip_model.safetensors"
HEAD_NAME = "head.safetensors"

SAFE_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")  # the last three with weights_only
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
# What a foreign config may tell a tokenizer; `trust_remote_code`, which runs code, is not here.
TOKENIZER_OPTIONS = ("clean", "strip_sep_token", "language")

# Byte-pair encoding is quadratic in the length of a word, and 77 tokens never need more letters.
TEXT_LIMIT = 1_000

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Images = Pixels | Sequence[Pixels | Image.Image]


class Geometry(NamedTuple):
    """The arguments of `resize_images` that belong to a model."""

    size: int
    resize_mode: str
    interpolation: str


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

    def pixels(self, images: Pixels) -> Tensor:
        """What the encoder takes: uint8 (n, size, size, 3) -> normalized (n, 3, size, size)."""
        batch = torch.tensor(images, device=self.device).permute(0, 3, 1, 2).float().div_(255)
        mean, std = (
            torch.tensor(v, device=self.device).view(3, 1, 1) for v in (self.mean, self.std)
        )
        return batch.sub_(mean).div_(std)

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token ids (n, context) of texts; whatever is too long is cut."""
        tokens: Tensor = self.tokenizer([" ".join(text.split())[:TEXT_LIMIT] for text in texts])
        return tokens

    @torch.no_grad()
    def encode_images(self, images: Images, batch_size: int = 256) -> Floats:
        """Features of images of any size: (n, d) float32, L2-normalized.

        The same images in the same batches on the same number of threads give the same bits.
        """
        self.model.eval()
        features = np.zeros((len(images), self.dim), np.float32)
        for start in range(0, len(images), batch_size):
            rows = slice(start, start + batch_size)
            batch = self.model.encode_image(self.pixels(self.resize(images[rows])))
            features[rows] = F.normalize(batch, dim=-1).cpu().numpy()
        return features

    @torch.no_grad()
    def encode_texts(
        self, texts: Sequence[str], *, normalize: bool = False, batch_size: int = 256
    ) -> Floats:
        """Features of texts: (n, d) float32, as the tower gives them unless `normalize`."""
        self.model.eval()
        features = np.zeros((len(texts), self.dim), np.float32)
        for start in range(0, len(texts), batch_size):
            rows = slice(start, start + batch_size)
            batch = self.model.encode_text(self.tokens(texts[rows]).to(self.device))
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


def load_clip(
    model: str | Path,
    *,
    pretrained: str | Path | None = None,
    config: str | Path | None = None,
    device: str | torch.device | None = None,
) -> Clip:
    """Open a CLIP model.

    Args:
        model: a folder that open_clip would open as `local-dir:`, or the name of an architecture.
        pretrained: for a name: one of open_clip's tags (downloaded) or a local weights file.
        config: for a name open_clip does not know: the JSON file that describes the architecture.
        device: where to put it; by default the GPU if there is one.

    Raises:
        ModelError: not there, half-written, of another architecture, or in need of unpickling.

    Example:
        >>> load_clip("ViT-B-23", pretrained="openai")
        Traceback (most recent call last):
        ...
        headwater.errors.ModelError: unknown architecture: expected a name open_clip knows, \
such as ViT-B-32, ... saw ViT-B-23. Give one of those, ...
    """
    if pretrained is None and config is None:
        source = _folder(Path(str(model).removeprefix("local-dir:")))
    else:
        source = _named(str(model), pretrained, config)
    clip = _build(source, seed=0)
    _fill(clip.model, source.weights)
    clip.model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return replace(clip, digest=digest_file(source.weights))


def untrained_clip(
    config: Mapping[str, Any],
    *,
    seed: int = 0,
    preprocess: Mapping[str, Any] | None = None,
    tokenizer: str | Path | None = None,
) -> Clip:
    """A model with random weights, to be trained from the start.

    Args:
        config: open_clip's `model_cfg`: embed_dim, vision_cfg, text_cfg.
        seed: of the weights.
        preprocess: mean, std, interpolation, resize_mode where they differ from open_clip's.
        tokenizer: a folder with tokenizer files, if `text_cfg` has an `hf_tokenizer_name`.

    Raises:
        ModelError: open_clip cannot build that, or its tokenizer is missing.

    Example:
        >>> vision = {"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8}
        >>> text = {"context_length": 16, "width": 16, "heads": 2, "layers": 1}
        >>> clip = untrained_clip({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text})
        >>> clip.encode_texts(["one", "two"]).shape
        (2, 8)
    """
    folder = Path(tokenizer) if tokenizer else None
    return _build(_Source(dict(config), dict(preprocess or {}), Path(), folder), seed=seed)


def load_head(folder: str | Path) -> tuple[Floats, tuple[str, ...]]:
    """The head saved with a model: weights (classes, d) and the label of each row.

    Raises:
        ModelError: the folder has no head, or one that cannot be read.
    """
    path = Path(folder) / HEAD_NAME
    if not path.is_file():
        raise ModelError(
            "model has no head",
            expected=HEAD_NAME,
            seen=str(folder),
            do="Adapt it to a task first.",
        )
    try:
        with safe_open(path, framework="numpy") as file:
            weights: Floats = file.get_tensor("weight")
            labels = json.loads((file.metadata() or {}).get("labels", "[]"))
    except (SafetensorError, ValueError) as error:
        raise ModelError(
            f"cannot read {path}", seen=_first_line(error), do="Save it anew."
        ) from error
    return weights, tuple(str(label) for label in labels)


def resize_images(
    images: Images,
    size: int,
    *,
    resize_mode: str = "shortest",
    interpolation: str = "bicubic",
) -> Pixels:
    """Images of any size as one uint8 array (n, size, size, 3), the way open_clip evaluates.

    The shortest side is resized to `size` and the center cut out; "squash" and "longest" are
    open_clip's other modes, for models that ask for them. Arrays of that size come back as they
    are.

    Args:
        images: uint8 (n, h, w, 3), or a sequence of uint8 (h, w, 3) arrays or PIL images.
        size: side of the square, in pixels.
        resize_mode: shortest, longest or squash.
        interpolation: bicubic or bilinear.

    Raises:
        InputError: something that is no RGB image.

    Example:
        >>> resize_images([np.zeros((40, 60, 3), np.uint8)], 32).shape
        (1, 32, 32, 3)
    """
    if isinstance(images, np.ndarray) and images.shape[1:] == (size, size, 3):
        return _rgb(images)
    whole = image_transform(
        size, is_train=False, resize_mode=resize_mode, interpolation=interpolation
    )
    geometry = Compose(whole.transforms[:-2])  # all but to-tensor and normalize
    resized = np.empty((len(images), size, size, 3), np.uint8)
    for row, image in enumerate(images):
        resized[row] = np.asarray(geometry(_pil(image)))
    return resized


@dataclass(frozen=True)
class _Source:
    """Where a model comes from, however it was named."""

    config: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path
    folder: Path | None


def _folder(folder: Path) -> _Source:
    if not folder.is_dir():
        raise ModelError(
            "no such model",
            expected=f"a folder with {CONFIG_NAME}",
            seen=str(folder),
            do="Check the path, or give pretrained weights with an architecture's name.",
        )
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise ModelError(
                f"no {name} in {folder}",
                expected=f"{CONFIG_NAME} and {WEIGHTS_NAME}",
                seen=", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing",
                do="Give the folder of an open_clip model.",
            )
    content = _json(folder / CONFIG_NAME)
    return _Source(
        _table(content, "model_cfg"),
        _table(content, "preprocess_cfg", {}),
        folder / WEIGHTS_NAME,
        folder,
    )


def _named(name: str, pretrained: str | Path | None, config: str | Path | None) -> _Source:
    architecture = _json(Path(config)) if config else open_clip.get_model_config(name)
    if architecture is None:
        known = difflib.get_close_matches(name, open_clip.list_models(), n=3, cutoff=0.0)
        raise ModelError(
            "unknown architecture",
            expected=f"a name open_clip knows, such as {', '.join(known)}",
            seen=name,
            do="Give one of those, or its JSON file as config.",
        )
    tag = open_clip.get_pretrained_cfg(name, str(pretrained))
    if tag:
        _check_activation(name, str(pretrained), architecture, tag)
        return _Source(architecture, dict(tag), _download(name, tag), None)
    return _Source(architecture, {}, _weights_file(name, pretrained), None)


def _weights_file(name: str, pretrained: str | Path | None) -> Path:
    path = Path(pretrained or "")
    if path.is_file() and path.suffix in SAFE_WEIGHTS:
        return path
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none for this one"
    raise ModelError(
        f"no weights for {name}",
        expected=f"a {' or '.join(SAFE_WEIGHTS)} file, or one of open_clip's tags ({tags})",
        seen=str(pretrained),
        do="Check the path or the tag.",
    )


def _download(name: str, tag: Mapping[str, Any]) -> Path:
    try:
        return Path(open_clip.download_pretrained(tag))
    except Exception as error:
        raise ModelError(
            f"cannot download weights of {name}", seen=_first_line(error), do="Give a local file."
        ) from error


def _check_activation(
    name: str, tag: str, architecture: Mapping[str, Any], stated: Mapping[str, Any]
) -> None:
    """open_clip only warns here, and then the model is some points worse than it should be."""
    ours, theirs = (bool(c.get("quick_gelu", False)) for c in (architecture, stated))
    if ours != theirs:
        other = f"{name}-quickgelu" if theirs else name.removesuffix("-quickgelu")
        raise ModelError(
            f"{tag} weights were trained with {'QuickGELU' if theirs else 'GELU'}",
            expected=other,
            seen=name,
            do=f"Name the architecture {other}.",
        )


def _build(source: _Source, *, seed: int) -> Clip:
    try:
        model = _architecture(source.config, seed)
        tokenizer = _tokenizer(source.config["text_cfg"], source.folder)
        size = model.visual.image_size
        preprocess = PreprocessCfg(
            **merge_preprocess_dict(PreprocessCfg(), {**source.preprocess, "size": size})
        )
    except ModelError:
        raise
    except Exception as error:  # a foreign config can go wrong in any way it likes
        raise ModelError(
            "config describes no model", seen=_first_line(error), do="Give open_clip's own JSON."
        ) from error
    _check_vocabulary(model, tokenizer)
    files = _tokenizer_files(tokenizer, source.folder)
    return Clip(model.eval(), tokenizer, source.config, preprocess, tokenizer_files=files)


def _architecture(config: Mapping[str, Any], seed: int) -> Any:
    parts = deepcopy(dict(config))
    # Towers must not fetch weights of their own: all weights come from the one file.
    parts["vision_cfg"].pop("timm_model_pretrained", None)
    own_text = "hf_model_name" in parts["text_cfg"]
    if own_text:
        parts["text_cfg"]["hf_model_pretrained"] = False
    custom = parts.pop("custom_text", False) or own_text
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**parts)


def _tokenizer(text: Mapping[str, Any], folder: Path | None) -> Any:
    options = dict(text.get("tokenizer_kwargs") or {})
    if unknown := sorted(set(options) - set(TOKENIZER_OPTIONS)):
        raise ModelError(
            "tokenizer options",
            expected=", ".join(TOKENIZER_OPTIONS),
            seen=", ".join(unknown),
            do="Take the others out of tokenizer_kwargs.",
        )
    length = text.get("context_length", 77)
    if not text.get("hf_tokenizer_name"):
        return SimpleTokenizer(context_length=length, **options)
    return HFTokenizer(
        str(folder or text["hf_tokenizer_name"]),
        context_length=length,
        tokenizer_mode=text.get("tokenizer_mode"),
        local_files_only=folder is not None,
        trust_remote_code=False,
        **options,
    )


def _check_vocabulary(model: Any, tokenizer: Any) -> None:
    """A token the model has no row for would only show later, as an index out of range."""
    rows = getattr(model, "vocab_size", None)
    words = len(tokenizer.tokenizer) if isinstance(tokenizer, HFTokenizer) else tokenizer.vocab_size
    if rows is not None and words > rows:
        raise ModelError(
            "tokenizer and model disagree",
            expected=f"at most {rows:,} tokens, the model's vocab_size",
            seen=f"{words:,}",
            do="Give the tokenizer that belongs to the model.",
        )


def _tokenizer_files(tokenizer: Any, folder: Path | None) -> dict[str, bytes]:
    if not isinstance(tokenizer, HFTokenizer):
        return {}
    if folder is not None:
        return _read_files(folder)
    with TemporaryDirectory() as made:
        tokenizer.save_pretrained(made)
        return _read_files(Path(made))


def _read_files(folder: Path) -> dict[str, bytes]:
    present = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    return {path.name: path.read_bytes() for path in present}


def _fill(model: Any, weights: Path) -> None:
    try:
        open_clip.load_checkpoint(model, str(weights), strict=True, weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{weights.name} needs unpickling, which can run code",
            expected="safetensors",
            seen=str(weights),
            do="Where you trust it, open it in torch and write its state_dict with safetensors.",
        ) from error
    except Exception as error:  # safetensors, torch and open_clip each have their own errors
        raise ModelError(
            f"{weights.name} does not fit the model or is half-written",
            seen=_first_line(error),
            do="Give the weights that belong to the config, whole.",
        ) from error


def _save_head(path: Path, head: Floats, labels: Sequence[str] | None) -> None:
    tensor = torch.tensor(head, dtype=torch.float32)
    with replacing(path) as beside:
        save_file({"weight": tensor}, beside, {"labels": json.dumps(list(labels or []))})


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"cannot read {path}", expected="JSON", seen=_first_line(error), do="Check the file."
        ) from error
    return _table({"": content}, "", what=str(path))


def _table(
    content: Mapping[str, Any],
    key: str,
    default: dict[str, Any] | None = None,
    *,
    what: str = CONFIG_NAME,
) -> dict[str, Any]:
    value = content.get(key, default)
    if isinstance(value, dict):
        return value
    raise ModelError(
        what,
        expected=f"a JSON object{f' under {key}' if key else ''}",
        seen=type(value).__name__,
        do="Give open_clip's own config.",
    )


def _pil(image: Pixels | Image.Image) -> Image.Image:
    return image if isinstance(image, Image.Image) else Image.fromarray(_rgb(image))


def _rgb(image: Pixels) -> Pixels:
    if getattr(image, "dtype", None) == np.uint8 and image.shape[-1:] == (3,):
        return image
    seen = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
    raise InputError("images", expected="uint8 (height, width, 3)", seen=seen)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
