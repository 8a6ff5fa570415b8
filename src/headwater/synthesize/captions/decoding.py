"""How a model chooses its next token, so that a text depends on its own row and on nothing else.

Rows are computed side by side, and then a sum of many numbers may differ in its last digits with
the rows beside it. Where a choice was so close that those digits could decide it, the row is marked
as unsure, and `batches.py` has it written again alone.
Random numbers come from one stream a row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from headwater.errors import RunError

MARGIN = 5e-4
"""A lead in log-probability that is no accident of its batch.

Measured in float32 on random GPT-2 and Llama models of 12 layers and 768 dimensions, logits scaled
to a standard deviation of 5: a row alone and the same row padded in a batch of 8 differed by at
most 3e-5 (GPT-2) and 1.1e-4 (Llama) over all tokens of the vocabulary.
"""

SHARE_MARGIN = 1e-4
"""The same for the share that top-p cuts at."""


class Chooser:
    """Leaves one token a row to be chosen, and notes at which step a choice was first too close.

    A logits processor of transformers: with greedy decoding behind it, what it leaves is taken.
    """

    def __init__(self, rows: int) -> None:
        self.step = 0
        self.unsure_at = [-1] * rows

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (rows, vocabulary) in; 0 for the chosen token of each row and -inf for others."""
        if bool(scores.isnan().any()):
            raise RunError(
                "the model computes no numbers", seen="NaN among its scores",
                do="Check its weights.",
            )  # fmt: skip
        token, unsure = self.choose(scores.float())
        for row in torch.nonzero(unsure).flatten().tolist():
            if self.unsure_at[row] < 0:
                self.unsure_at[row] = self.step
        self.step += 1
        return torch.full_like(scores, -torch.inf).scatter_(1, token[:, None], 0.0)

    def choose(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """The most probable token of each row, and whether another is about as probable."""
        return _lead(scores)

    def chosen(self, grown: Tensor, *, ends: Collection[int]) -> list[list[int]]:
        """The tokens of each row that were chosen here, up to its end.

        Args:
            grown: what `generate` returned: (rows, tokens), with or without what came before.
            ends: the tokens that end a text.
        """
        rows = grown[:, grown.shape[1] - self.step :].tolist()
        stops = [next((at for at, one in enumerate(r) if one in ends), len(r)) for r in rows]
        return [row[:stop] for row, stop in zip(rows, stops, strict=True)]

    def is_sure(self, row: int, length: int) -> bool:
        """Whether the first `length` tokens of a row were all chosen clearly."""
        return not 0 <= self.unsure_at[row] < length


class Sampler(Chooser):
    """Draws from the tokens that hold `top_p` of the probability at a temperature.

    The draw is the largest of log-probability plus Gumbel noise, which follows the probabilities
    exactly. The noise of a row comes from its own seed, for all tokens in each step, so that
    nothing that other rows do shifts it.
    """

    def __init__(
        self, seeds: Sequence[int], *, temperature: float, top_p: float, device: torch.device
    ) -> None:
        super().__init__(len(seeds))
        self.temperature = temperature
        self.top_p = top_p
        self.streams = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def choose(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """A token of each row, and whether it was drawn by so little that it may be by chance."""
        logp = torch.log_softmax(scores / self.temperature, dim=-1)
        noisy = logp + self._noise(logp)
        if self.top_p >= 1:
            return _lead(noisy)
        kept, perhaps = _kept(logp, self.top_p)
        token = noisy.masked_fill(~kept, -torch.inf).argmax(1)
        best, close = _lead(noisy.masked_fill(~perhaps, -torch.inf))
        return token, close | (_share_before(logp, best) > self.top_p - SHARE_MARGIN)

    def _noise(self, like: Tensor) -> Tensor:
        waits = [torch.empty_like(like[0]).exponential_(generator=g) for g in self.streams]
        return -torch.stack(waits).log()


class LineEnd:
    """Stops a row at the first newline behind some text, whatever tokens spell it."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.begin: int | None = None

    def __call__(self, input_ids: Tensor, scores: object, **kwargs: object) -> Tensor:
        """Whether each row is done."""
        if self.begin is None:  # one token is there already
            self.begin = input_ids.shape[1] - 1
        new = input_ids[:, self.begin :]
        texts = self.tokenizer.batch_decode(new, skip_special_tokens=True)
        done = ["\n" in text.lstrip() for text in texts]
        return torch.tensor(done, device=input_ids.device)


def _lead(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The best token of each row, and whether the second is within the margin."""
    if scores.shape[1] == 1:
        return scores.argmax(1), torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    best, token = scores.topk(2)
    return token[:, 0], best[:, 0] - best[:, 1] < MARGIN


def _kept(logp: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Which tokens top-p keeps: those that fewer than `top_p` come before; and which it might."""
    ordered = logp.sort(descending=True).values
    before = ordered.exp().cumsum(-1) - ordered.exp()
    ends = [(before < share).sum(-1, keepdim=True) - 1 for share in (top_p, top_p + SHARE_MARGIN)]
    cut, lowest = (ordered.gather(1, end) for end in ends)
    return logp >= cut, logp >= lowest - MARGIN


def _share_before(logp: Tensor, token: Tensor) -> Tensor:
    """The probability of all tokens that may come before one, which near ones may; (rows,)."""
    own = logp.gather(1, token[:, None])
    others = logp.exp().masked_fill(logp <= own - MARGIN, 0.0)
    return others.scatter(1, token[:, None], 0.0).sum(-1)
