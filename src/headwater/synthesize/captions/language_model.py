"""The writer that is a causal language model on this machine, opened through transformers.

What it is told is in `instructions.py`, how it chooses its words in `decoding.py`, how its files
are opened in `checkpoint.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from headwater.errors import ModelError, first_line
from headwater.float32 import full_float32
from headwater.store import digest_value, stable_seed
from headwater.synthesize.captions.batches import lines_in_blocks
from headwater.synthesize.captions.checkpoint import (
    find_model,
    model_digest,
    open_model,
    opening,
    shown_name,
    silence,
    text_ends,
)
from headwater.synthesize.captions.decoding import LineEnd, Sampler
from headwater.synthesize.captions.instructions import (
    clean,
    conversation,
    instructions_digest,
    prompt,
)
from headwater.synthesize.captions.writer import Ask

EVERYDAY = "a photo"
"""Words that any tokenizer for captions gives back as it got them."""


class LanguageModel:
    """Writes each caption by going on with three examples, up to the end of the line.

    The same ask and seed give the same caption whatever is written beside it, since
    - each ask draws from a random stream of its own, keyed by the ask and the seed;
    - prompts are padded on the left, and attention mask and positions leave the padding out;
    - everything is computed in float32 proper, so that a row in a batch differs from the same row
      alone in its last digits only; and
    - where a draw was so close that those digits might decide it, the caption is written again
      alone. A few in a hundred are.

    A GPU and a CPU have different random numbers and write different captions.

    Example:
        >>> LanguageModel("./no-such-folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        headwater.errors.ModelError: no model there: expected a folder, saw no-such-folder. ...
    """

    def __init__(
        self,
        name_or_folder: str | Path,
        *,
        temperature: float = 0.8,
        top_p: float = 0.9,
        tokens: int = 100,
        block: int = 16,
        device: str | None = None,
    ) -> None:
        """Open a model.

        Args:
            name_or_folder: a folder as `save_pretrained` writes it, or a name on the Hub.
            temperature, top_p: of the sampling; the paper's by default.
            tokens: a caption has at most so many.
            block: captions written at once; halved where memory ends.
            device: as torch names it; None is the GPU where there is one, else the CPU.

        Raises:
            ModelError: no such model, one that is half there, holds pickles or needs code.
        """
        self.folder = find_model(name_or_folder)
        self.name = shown_name(name_or_folder)
        self.temperature, self.top_p, self.tokens = temperature, top_p, tokens
        self.block = block
        with opening(self.folder):
            self.tokenizer: Any = AutoTokenizer.from_pretrained(
                self.folder, trust_remote_code=False, local_files_only=True
            )
        self.model = open_model(AutoModelForCausalLM, self.folder, device=device)
        self._check_tokenizer()

    @cached_property
    def digest(self) -> str:
        """Identifies weights, tokenizer, instructions and sampling."""
        settings = [self.temperature, self.top_p, self.tokens]
        return digest_value([model_digest(self.folder), instructions_digest(), settings])

    @property
    def is_chat(self) -> bool:
        """Whether the model is spoken to in turns, as its tokenizer tells."""
        return bool(getattr(self.tokenizer, "chat_template", None))

    def write(self, asks: Sequence[Ask], *, seed: int) -> list[str]:
        """One caption for each ask; "" where nothing usable came.

        Raises:
            ModelError: the model reads too few tokens for a prompt and a caption.
            RunError: it computes NaN, or memory does not suffice for one caption.
        """
        return lines_in_blocks(
            asks, lambda some: self._answer(some, seed), block=self.block, name=self.name
        )

    def _answer(self, asks: Sequence[Ask], seed: int) -> tuple[list[str], list[bool]]:
        """The captions of some asks, and whether each is certain."""
        prompts = [self._encode(ask, seed) for ask in asks]
        texts, sure = self._complete(prompts, [stable_seed(seed, *ask) for ask in asks])
        return [clean(text, ask) for text, ask in zip(texts, asks, strict=True)], sure

    def _check_tokenizer(self) -> None:
        # Where its files are missing, transformers makes an empty one and says nothing.
        ids = self.tokenizer(EVERYDAY)["input_ids"]
        rows = self.model.get_input_embeddings().weight.shape[0]
        if EVERYDAY not in self.tokenizer.decode(ids) or max(ids) >= rows:
            raise ModelError(
                f"the tokenizer of {self.name} is not the model's, or not whole",
                expected=f"{EVERYDAY!r} read, with ids below {rows}",
                seen=repr(self.tokenizer.decode(ids))[:80], do="Get the model again.",
            )  # fmt: skip

    def _encode(self, ask: Ask, seed: int) -> list[int]:
        """The token ids of a prompt."""
        if self.is_chat:
            ids = self._encode_conversation(conversation(ask, seed=seed))
        else:
            ids = self.tokenizer(prompt(ask, seed=seed))["input_ids"]
        config = self.model.config.get_text_config()
        most = getattr(config, "max_position_embeddings", None)
        if most and len(ids) + self.tokens > most:
            raise ModelError(
                f"the model {self.name} reads too little",
                expected=f"{len(ids)} tokens for a prompt and {self.tokens} for a caption",
                seen=f"{most}", do="Set fewer tokens, or take another model.",
            )  # fmt: skip
        return [int(one) for one in ids]

    def _encode_conversation(self, messages: list[dict[str, str]]) -> list[int]:
        try:
            text = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except Exception as error:  # a template is a program that came with the model
            raise ModelError(
                f"the chat template of {self.name} fails", seen=first_line(error),
                do="Take another model, or remove the template to use it as a base model.",
            ) from error  # fmt: skip
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _complete(
        self, prompts: Sequence[list[int]], seeds: Sequence[int]
    ) -> tuple[list[str], list[bool]]:
        """What the model goes on with behind each prompt, and whether all of it is certain."""
        device = self.model.device
        ids, mask = (one.to(device) for one in _pad_left(prompts, filler=self._filler))
        sampler = Sampler(seeds, temperature=self.temperature, top_p=self.top_p, device=device)
        with torch.inference_mode(), full_float32(), silence():
            grown = self.model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=self.tokens,
                do_sample=False, num_beams=1, logits_processor=[sampler],
                pad_token_id=self._filler, eos_token_id=self._ends or None,
                stopping_criteria=[LineEnd(self.tokenizer)],
            )  # fmt: skip
        rows = sampler.chosen(grown, ends=self._ends)
        texts = self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        sure = [sampler.is_sure(number, len(row) + 1) for number, row in enumerate(rows)]
        return texts, sure

    @cached_property
    def _ends(self) -> list[int]:
        """The tokens a text may end with."""
        return text_ends(self.model, self.tokenizer)

    @property
    def _filler(self) -> int:
        # What stands beside a shorter prompt is masked, so that any token will do; behind a
        # finished text the end goes on.
        return (self._ends or [0])[0]


def _pad_left(rows: Sequence[list[int]], *, filler: int) -> tuple[Tensor, Tensor]:
    """Token ids (rows, longest) that end together, and where there are any."""
    width = max(map(len, rows))
    ids = [[filler] * (width - len(row)) + row for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids), torch.tensor(mask)
