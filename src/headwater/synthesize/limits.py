"""How much of a caption a generator reads: text encoders cut off what is longer than they take.

Stable Diffusion reads 77 tokens, start and end included. Where several encoders read the same
caption, what the one reads that takes most counts: T5 beside the CLIPs of Stable Diffusion 3.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

from diffusers import DiffusionPipeline

from headwater.synthesize.generator import library_silence

BOUNDLESS = 1_000_000  # transformers says 10^30 where a tokenizer knows no limit


class Fit(NamedTuple):
    """How much of a caption is read."""

    tokens: int
    """Tokens it has, those that begin and end it included."""
    read: int
    """How many of them are read."""
    text: str
    """The part that is read; the whole caption where all are."""


class Reader(NamedTuple):
    """A tokenizer and how many tokens its text encoder takes."""

    tokenizer: Any
    limit: int


def read_part(pipeline: DiffusionPipeline, captions: Sequence[str]) -> list[Fit]:
    """How much of each caption a pipeline reads, by the text encoder that reads most of it.

    Args:
        pipeline: from `load_generator`. One without tokenizers is taken to read everything,
            and to count no tokens.
        captions: any texts.

    Example:
        >>> from types import SimpleNamespace
        >>> from transformers import ByT5Tokenizer
        >>> parts = {"tokenizer": ByT5Tokenizer(model_max_length=6), "text_encoder": object()}
        >>> read_part(SimpleNamespace(components=parts), ["iris", "red rose"])
        [Fit(tokens=5, read=5, text='iris'), Fit(tokens=9, read=6, text='red r')]
    """
    captions = list(captions)
    readers = caption_readers(pipeline)
    if not readers or not captions:
        return [Fit(0, 0, caption) for caption in captions]
    with library_silence():
        fits = [_fits(reader, captions) for reader in readers]
    return [max(of_one, key=lambda fit: len(fit.text)) for of_one in zip(*fits, strict=True)]


def caption_readers(pipeline: DiffusionPipeline) -> list[Reader]:
    """The tokenizers of a pipeline that feed a text encoder, each with its limit.

    The limit is the least of what the tokenizer, the encoder's table of positions and, except
    for CLIP, the pipeline's `max_sequence_length` allow.
    """
    readers = []
    for name, tokenizer in pipeline.components.items():
        encoder = pipeline.components.get(name.replace("tokenizer", "text_encoder"))
        if name.startswith("tokenizer") and tokenizer is not None and encoder is not None:
            inner = getattr(tokenizer, "tokenizer", tokenizer)  # of a processor
            readers.append(Reader(inner, _limit(pipeline, inner, encoder)))
    return readers


def _limit(pipeline: DiffusionPipeline, tokenizer: Any, encoder: Any) -> int:
    config = getattr(encoder, "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    limits = [tokenizer.model_max_length, positions]
    if not str(getattr(config, "model_type", "")).startswith("clip"):
        limits.append(_sequence_length(pipeline))
    return min(
        [limit for limit in limits if isinstance(limit, int) and limit > 0], default=BOUNDLESS
    )


def _sequence_length(pipeline: DiffusionPipeline) -> Any:
    # The default of the call, or, in a few pipelines, of what it hands its prompt to.
    for function in (pipeline, getattr(pipeline, "encode_prompt", None)):
        if callable(function):
            argument = inspect.signature(function).parameters.get("max_sequence_length")
            if argument is not None:
                return argument.default
    return None


def _fits(reader: Reader, captions: list[str]) -> list[Fit]:
    tokenizer, limit = reader
    fast = bool(getattr(tokenizer, "is_fast", False))
    told = tokenizer(captions, add_special_tokens=False, verbose=False, return_offsets_mapping=fast)
    framing = tokenizer.num_special_tokens_to_add()
    fits = []
    for row, (caption, tokens) in enumerate(zip(captions, told["input_ids"], strict=True)):
        count, room = len(tokens) + framing, max(limit - framing, 0)
        if count <= limit:
            text = caption
        elif fast:
            text = caption[: max((end for _, end in told["offset_mapping"][row][:room]), default=0)]
        else:
            text = tokenizer.decode(tokens[:room])
        fits.append(Fit(count, min(count, limit), text))
    return fits
