"""The encoder: streams of encoded images and captions into features, as fast as the model goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from headwater.clip.feed import Feed, Job, Ready, in_batches
from headwater.clip.model import Clip, Floats
from headwater.clip.precision import choose_precision, computing
from headwater.clip.texts import end_of_text, is_causal

WINDOW = 16  # batches of captions that are sorted by length together

Rows = NDArray[np.int64]


class Encoder:
    """A model with workers that feed it; kept over any number of shards.

    Args:
        clip: the model.
        batch_size: rows at a time.
        precision: float32, bf16, or auto: bf16 on a GPU that has it, float32 elsewhere.
        workers: processes that decode; None is one per core, 0 stays in this process.

    Attributes:
        precision: float32 or bf16.

    Raises:
        InputError: an unknown precision.

    Example:
        >>> from headwater.clip import untrained_clip
        >>> vision = {"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8}
        >>> text = {"context_length": 16, "width": 16, "heads": 2, "layers": 1}
        >>> clip = untrained_clip({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text})
        >>> encoder = Encoder(clip, workers=0)
        >>> for rows, features in encoder.captions([(0, "a red rose"), (1, "rose")]):
        ...     print(rows, features.shape)
        [1 0] (2, 8)
    """

    def __init__(
        self,
        clip: Clip,
        *,
        batch_size: int = 256,
        precision: str = "auto",
        workers: int | None = None,
    ) -> None:
        self.clip = clip
        self.batch_size = batch_size
        self.precision = choose_precision(precision, clip.device)
        self._feed = Feed(clip, workers=workers)
        clip.model.eval()

    def images(self, jobs: Iterable[Job]) -> Iterator[tuple[Rows, Floats]]:
        """Rows and features (n, d), L2-normalized, of encoded images; of what decodes, in order."""
        device = self.clip.device
        moved = (
            Ready(ready.rows, ready.batch.to(device, non_blocking=True))
            for ready in self._feed.prepare(jobs)
        )
        return self._encode(in_batches(moved, self.batch_size), self.clip.encode_pixels)

    def captions(self, jobs: Iterable[Job]) -> Iterator[tuple[Rows, Floats]]:
        """Rows and features (n, d), L2-normalized, of captions, in an order of its own."""
        windows = in_batches(self._feed.prepare(jobs), WINDOW * self.batch_size)
        batches = (
            batch
            for window in windows
            for batch in in_batches([self._sort(window)], self.batch_size)
        )
        return self._encode(batches, self._encode_tokens)

    def _encode(
        self, batches: Iterable[Ready], encode: Callable[[Tensor], Tensor]
    ) -> Iterator[tuple[Rows, Floats]]:
        # One behind: a GPU is given its next batch before the last one's features are waited for.
        waiting: tuple[Rows, Callable[[], Floats]] | None = None
        for rows, batch in batches:
            with computing(self.precision, self.clip.device):
                fetch = _begin_to_fetch(encode(batch))
            if waiting is not None:
                yield waiting[0], waiting[1]()
            waiting = rows, fetch
        if waiting is not None:
            yield waiting[0], waiting[1]()

    def _encode_tokens(self, tokens: Tensor) -> Tensor:
        return normalize(self.clip.encode_tokens(tokens), dim=-1)

    def _sort(self, ready: Ready) -> Ready:
        """Captions of like length beside each other, so that a batch is no longer than it must."""
        if not is_causal(self.clip.model):
            return ready
        order = end_of_text(self.clip.model, ready.batch).argsort(stable=True)
        return Ready(ready.rows[order.numpy()], ready.batch[order])


def _begin_to_fetch(features: Tensor) -> Callable[[], Floats]:
    """Have features copied to this machine's memory; what is returned waits for them."""
    if features.device.type != "cuda":
        return features.cpu().numpy
    copied = features.to("cpu", non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record()

    def fetch() -> Floats:
        arrived.synchronize()
        return copied.numpy()

    return fetch
