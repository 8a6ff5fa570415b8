"""Tiny random-weight models that write, base and chat.

What they write means nothing, but everything about them is real: a byte-level tokenizer learned
from the example captions, the ordinary transformers classes, and folders as `save_pretrained`
writes them. Building one takes under a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from headwater.synthesize.captions.examples import EXAMPLES

POSITIONS = 1024  # tokens a model reads
END = "<end>"
CHAT = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


def build_tiny_language_model(
    folder: Path, *, family: str = "gpt2", chat: bool = False, seed: int = 0
) -> Path:
    """Write a model to `folder` and return it; the same seed gives the same weights.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     folder = build_tiny_language_model(Path(place) / "tiny")
    ...     (folder / "model.safetensors").is_file()
    True
    """
    tokenizer = example_tokenizer()
    if chat:
        tokenizer.chat_template = CHAT
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = {"gpt2": tiny_gpt2, "llama": tiny_llama}[family](len(tokenizer))
    model.save_pretrained(folder)
    return folder


def example_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of some 500 words, learned from the example captions."""
    lines = [e.caption for examples in EXAMPLES.values() for e in examples]
    learned = ByteLevelBPETokenizer()
    learned.train_from_iterator(lines, vocab_size=500, special_tokens=[END], show_progress=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=learned._tokenizer, bos_token=END, eos_token=END, pad_token=END
    )


def tiny_gpt2(words: int) -> Any:
    config = GPT2Config(
        vocab_size=words, n_positions=POSITIONS, n_embd=32, n_layer=2, n_head=2,
        initializer_range=0.3, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def tiny_llama(words: int) -> Any:
    config = LlamaConfig(
        vocab_size=words, max_position_embeddings=POSITIONS, hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, initializer_range=0.3,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)
