"""Texts as token ids, and the text tower run no further than the longest of them.

A causal tower that pools at the end-of-text token never lets a token see what stands behind it, so
the padding up to 77 tokens costs three quarters of the work and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
from open_clip.transformer import text_global_pool
from torch import Tensor

# Byte-pair encoding is quadratic in the length of a word, and 77 tokens never need more letters.
TEXT_LIMIT = 1_000

POOLED_AT_END = ("argmax", "eos")  # open_clip's pool types that read the end-of-text token


def tokenize(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Token ids (n, context) of texts; whatever is too long is cut."""
    tokens: Tensor = tokenizer([" ".join(text.split())[:TEXT_LIMIT] for text in texts])
    return tokens


def encode_tokens(model: Any, tokens: Tensor) -> Tensor:
    """Text features (n, d), not normalized, of token ids (n, context) on the model's device.

    Where the tower is causal and pools at the end-of-text token, it runs on the longest text of the
    batch only; any other tower runs on all of it.
    """
    if not is_causal(model):
        features: Tensor = model.encode_text(tokens)
        return features
    ends = end_of_text(model, tokens)
    length = int(ends.max()) + 1 if len(tokens) else 1
    return _encode_first(model, tokens[:, :length])


def is_causal(model: Any) -> bool:
    """Whether no feature can depend on what stands behind the end-of-text token.

    Told of open_clip's own `CLIP` only, not of towers it takes from elsewhere.
    """
    known = type(model) is open_clip.CLIP
    return known and model.attn_mask is not None and model.text_pool_type in POOLED_AT_END


def end_of_text(model: Any, tokens: Tensor) -> Tensor:
    """Where each text's feature is read off: (n,) positions, as open_clip finds them."""
    marks = (tokens == model.text_eos_id).int() if model.text_pool_type == "eos" else tokens
    return marks.argmax(dim=-1)


def _encode_first(model: Any, tokens: Tensor) -> Tensor:
    """`open_clip.CLIP.encode_text` for texts shorter than the context."""
    length = tokens.shape[1]
    states = model.token_embedding(tokens) + model.positional_embedding[:length]
    states = model.transformer(states, attn_mask=model.attn_mask[:length, :length])
    x: Tensor = text_global_pool(
        model.ln_final(states), tokens, model.text_pool_type, model.text_eos_id
    )
    projection = model.text_projection
    if isinstance(projection, torch.nn.Linear):
        x = projection(x)
    elif projection is not None:
        x = x @ projection
    return x
