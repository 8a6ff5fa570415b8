"""A model config made into a network and its tokenizer, both without a single weight of a file."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transform import PreprocessCfg, merge_preprocess_dict

from headwater.clip.model import Clip
from headwater.clip.source import Source
from headwater.errors import ModelError, first_line

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


def build(source: Source, *, seed: int) -> Clip:
    """The model that a source's config describes, with random weights for a seed.

    Raises:
        ModelError: open_clip cannot build that, or its tokenizer is missing.
    """
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
            "config describes no model", seen=first_line(error), do="Give open_clip's own JSON."
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
