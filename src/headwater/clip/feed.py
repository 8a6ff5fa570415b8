"""The feed: image bytes and captions made ready for a model in worker processes, in order.

Workers decode, resize and tokenize; the process with the model only stacks and computes. They are
the workers of torch's data loader: a bounded queue, tensors through shared memory, and an end when
their parent ends. The parent reads the pool, once and from front to back, and hands the bytes out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from headwater.clip.model import Clip
from headwater.clip.pixels import Geometry, Pixels, resize_images
from headwater.clip.texts import tokenize
from headwater.decode import open_rgb
from headwater.engine import worker_count
from headwater.engine.local import end_with_parent, process_context
from headwater.errors import DecodeError, RunError, first_line

CHUNK = 32
"""Jobs handed out at once: 5 MB of pixels at 224 px, in shared memory until they are taken."""

AHEAD = 2  # chunks a worker may be ahead

Job = tuple[int, bytes | str]
"""The row of an encoded image, or of a caption."""


class Ready(NamedTuple):
    """Rows made ready: pixels uint8 (n, size, size, 3), or token ids (n, context)."""

    rows: NDArray[np.int64]
    batch: Tensor


class Feed:
    """Workers that make images and captions ready for one model, for any number of shards.

    Args:
        clip: whose input size and tokenizer count.
        workers: processes; None is one per core, 0 stays in this process.
        whole: decode large JPEGs whole, so that pixels are those of `Clip.resize`, bit for bit.

    Example:
        >>> from headwater.clip import untrained_clip
        >>> from headwater.decode import encode_png
        >>> vision = {"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8}
        >>> text = {"context_length": 16, "width": 16, "heads": 2, "layers": 1}
        >>> clip = untrained_clip({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text})
        >>> image = encode_png(np.zeros((40, 60, 3), np.uint8))
        >>> ready = Feed(clip, workers=0).prepare([(0, image), (1, b"no image"), (2, image)])
        >>> [(made.rows.tolist(), tuple(made.batch.shape)) for made in ready]
        [([0, 2], (2, 32, 32, 3))]
    """

    def __init__(self, clip: Clip, *, workers: int | None = None, whole: bool = False) -> None:
        count = worker_count(workers) if workers is None else workers
        own: dict[str, Any] = {}
        if count:
            own = {"num_workers": count, "prefetch_factor": AHEAD, "persistent_workers": True}
            own |= {"multiprocessing_context": process_context([__name__])}
            own |= {"worker_init_fn": _begin_worker}
        self._chunks = _Chunks()
        self._loader: DataLoader[Any] = DataLoader(
            _Preparation(clip.geometry, clip.tokenizer, whole),
            batch_sampler=self._chunks,
            collate_fn=_stack,
            generator=torch.Generator(),  # or it would draw from everyone's
            pin_memory=clip.device.type == "cuda",
            **own,
        )

    def prepare(self, jobs: Iterable[Job]) -> Iterator[Ready]:
        """Make jobs ready, in their order, some at a time; all of one kind, images or captions.

        A row whose image cannot be decoded is missing.

        Raises:
            RunError: a worker was killed.
            Whatever `jobs` raises.
        """
        self._chunks.jobs = iter(jobs)
        try:
            yield from self._loader
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise RunError(
                "a worker that decodes images was killed", seen=first_line(error),
                do="Run the same command again, with fewer --workers or more memory (shared memory "
                "too); what is finished is kept.",
            ) from error  # fmt: skip


def in_batches(ready: Iterable[Ready], size: int) -> Iterator[Ready]:
    """The same rows in the same order, but `size` at a time; the last may be fewer.

    Example:
        >>> parts = [Ready(np.arange(i, i + 3), torch.arange(i, i + 3)) for i in (0, 3)]
        >>> [made.rows.tolist() for made in in_batches(parts, 4)]
        [[0, 1, 2, 3], [4, 5]]
    """
    waiting: list[Ready] = []
    for made in ready:
        waiting.append(made)
        while sum(len(part.rows) for part in waiting) >= size:
            whole = _join(waiting)
            yield Ready(whole.rows[:size], whole.batch[:size])
            waiting = [Ready(whole.rows[size:], whole.batch[size:])]
    rest = _join(waiting) if waiting else None
    if rest is not None and len(rest.rows):
        yield rest


class _Chunks:
    """What the loader hands out: chunks of whatever jobs are set at the moment."""

    jobs: Iterator[Job] = iter(())

    def __iter__(self) -> Iterator[list[Job]]:
        while chunk := list(islice(self.jobs, CHUNK)):
            yield chunk


class _Preparation(Dataset[Any]):
    """What a worker does with one job."""

    def __init__(self, geometry: Geometry, tokenizer: Any, whole: bool) -> None:
        self._geometry = geometry
        self._tokenizer = tokenizer
        self._wanted = None if whole else geometry.size

    def __getitem__(self, job: Job) -> tuple[int, Pixels | Tensor | None]:
        row, data = job
        if isinstance(data, str):
            return row, tokenize(self._tokenizer, [data])[0]
        try:
            image = open_rgb(data, wanted=self._wanted)
        except DecodeError:
            return row, None
        return row, resize_images([image], **self._geometry._asdict())[0]


def _stack(done: Sequence[tuple[int, Pixels | Tensor | None]]) -> Ready:
    kept = [(row, torch.as_tensor(made)) for row, made in done if made is not None]
    rows = np.array([row for row, _ in kept], np.int64)
    return Ready(rows, torch.stack([made for _, made in kept]) if kept else torch.empty(0))


def _join(parts: Sequence[Ready]) -> Ready:
    full = [part for part in parts if len(part.rows)] or parts[:1]
    if len(full) == 1:
        return full[0]
    rows = np.concatenate([part.rows for part in full])
    return Ready(rows, torch.cat([part.batch for part in full]))


def _begin_worker(_: int) -> None:
    end_with_parent()  # torch watches the fork server, which does not end
