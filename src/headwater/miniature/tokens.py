"""A small CLIP tokenizer, learned from the pool's captions; learner and generator share it.

The files it writes open as `open_clip.get_tokenizer("local-dir:...")` beside a model config that
names a Hugging Face tokenizer, and as `transformers.CLIPTokenizer`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

CONTEXT = 16  # tokens a caption may take, both ends included
VOCABULARY = 1000  # tokens at most
START, END = "<|startoftext|>", "<|endoftext|>"


def build_tokenizer(captions: Iterable[str], folder: Path | str) -> int:
    """Learn a byte-level, lower-case BPE tokenizer and save it; returns the vocabulary size.

    The end token has the highest id, as CLIP's pooling (`argmax`) expects, and pads.

    Args:
        captions: any texts; the same texts in any order give the same files.
        folder: where to write, made if missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = build_tokenizer(["handwritten 7", "a photo of a seven"], folder)
        ...     names = sorted(path.name for path in Path(folder).iterdir())
        >>> names
        ['merges.txt', 'tokenizer.json', 'tokenizer_config.json', 'vocab.json']
        >>> size <= VOCABULARY
        True
    """
    from transformers import CLIPTokenizer

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = _learn(captions)
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT)
    tokenizer.save_pretrained(folder)
    # vocab.json and merges.txt are what readers older than transformers 5 look for
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return len(vocabulary)


def tokenize(captions: Sequence[str], folder: Path | str) -> Any:
    """Token ids of `captions`, an int64 tensor (n, CONTEXT), by the tokenizer saved in `folder`.

    Raises:
        OSError: no tokenizer in `folder`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     size = build_tokenizer(["handwritten 7"], folder)
        ...     ids = tokenize(["handwritten 7", "7"], folder)
        >>> ids.shape, bool(ids.max() == size - 1)
        (torch.Size([2, 16]), True)
    """
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder)
    encoded = tokenizer(
        list(captions),
        max_length=CONTEXT,
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    )
    return encoded.input_ids


def _learn(captions: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    # the same normalizer and word splitter as the tokenizer that will use the merges
    clip = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    letters = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    # Pairs seen equally often are merged in the order of their ids. Only special tokens get ids in
    # an order of ours; letters met on the way are numbered differently in every run.
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        special_tokens=letters,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(sorted(captions), trainer)
    learned = json.loads(learner.to_str())["model"]["merges"]
    merges = [(left, right) for left, right in learned][: VOCABULARY - 2 - len(letters)]
    tokens = dict.fromkeys([*letters, *(left + right for left, right in merges), START, END])
    return {token: number for number, token in enumerate(tokens)}, merges
