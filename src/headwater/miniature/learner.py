"""The miniature's learner: a small CLIP trained on the pool's pairs, stopped half-way on purpose.

A fully trained one would leave nothing to adapt; so training ends as soon as zero-shot accuracy
on the task's val images is in the middle. It is saved as an ordinary open_clip model,
`local-dir:FOLDER`, with a tokenizer of its own (`tokens.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch user knows it by
from numpy.typing import NDArray

from headwater.adapt.head import zero_shot_head
from headwater.clip import Clip, Pixels, untrained_clip
from headwater.errors import RunError
from headwater.miniature.scans import SIZE
from headwater.miniature.tokens import CONTEXT, build_tokenizer
from headwater.progress import track
from headwater.splits import load_split
from headwater.task import Task

Integers = NDArray[np.int64]

GOAL, FLOOR = 0.65, 0.4  # zero-shot accuracy on val: where training stops, and what it must reach
LOOKS = 3  # training stops by the mean of so many
LOOK_EVERY = 10  # steps
STEPS, QUICK_STEPS = 1200, 300  # at most
BATCH = 64
LR, WARMUP, WEIGHT_DECAY, BETAS = 1e-3, 50, 0.1, (0.9, 0.98)
SCALE = 20.0  # held: when learned it sinks at first, and learning the classes takes twice as long
THREADS = 1  # part of the result, as sums depend on it; towers this small gain nothing from more

PREPROCESS = {"mean": [0.35] * 3, "std": [0.3] * 3, "interpolation": "bicubic"}


def model_config(vocabulary: int) -> dict[str, Any]:
    """open_clip's `model_cfg`: a vision transformer on four patches, a text tower of one layer.

    Patches of half the picture's side: digits are centered, and with 16 small patches the towers
    take ten times as long to find the classes.

    Example:
        >>> model_config(1000)["text_cfg"]["context_length"]
        16
    """
    return {
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": SIZE, "patch_size": SIZE // 2, "width": 96, "layers": 3, "head_width": 32,
        },
        "text_cfg": {
            "context_length": CONTEXT, "vocab_size": vocabulary, "width": 64, "heads": 4,
            "layers": 1, "hf_tokenizer_name": "local-dir",
        },
    }  # fmt: skip


def train_learner(
    images: Pixels,
    captions: Sequence[str],
    folder: Path | str,
    *,
    task: Task,
    quick: bool = False,
    seed: int = 0,
) -> float:
    """Train on pairs, save to `folder`, and return the zero-shot accuracy on val.

    The same arguments give the same bytes.

    Args:
        images: uint8 (n, SIZE, SIZE, 3).
        captions: n texts.
        folder: made if missing.
        task: its val split and evaluation prompts say when to stop.
        quick: give up earlier.
        seed: of the weights and the order of the pairs.

    Raises:
        RunError: accuracy stayed below the goal.
    """
    clip = untrained_learner(captions, folder, seed=seed)
    with threads(THREADS):
        training = contrastive_steps(clip, images, captions, seed=seed)
        accuracy = _until_goal(training, clip, task, steps=QUICK_STEPS if quick else STEPS)
    clip.save(folder)
    return accuracy


def zero_shot_accuracy(clip: Clip, task: Task, images: Pixels, targets: Integers) -> float:
    """Share of images (n, s, s, 3) that the task's evaluation prompts class as targets (n,)."""
    texts = clip.class_text_features(task.names, task.prompts.evaluation)
    head = zero_shot_head(texts, clip.logit_scale)
    return float(np.mean((clip.encode_images(images) @ head.T).argmax(axis=1) == targets))


def _until_goal(training: Iterator[int], clip: Clip, task: Task, *, steps: int) -> float:
    """Look at val after every round of training, until the last LOOKS reach the goal."""
    val = load_split(task, "val")
    images = clip.resize(val.images)
    looks: list[float] = []
    rounds = steps // LOOK_EVERY
    for _ in track(islice(training, rounds), label="training the learner", total=rounds):
        looks.append(zero_shot_accuracy(clip, task, images, val.targets))
        if len(looks) >= LOOKS and np.mean(looks[-LOOKS:]) >= GOAL:
            break
    if looks[-1] < FLOOR:
        raise RunError(
            "the learner did not learn", expected=f"{FLOOR:.0%} of val zero-shot",
            seen=f"{looks[-1]:.0%} after {len(looks) * LOOK_EVERY} steps", do="Give it more pairs.",
        )  # fmt: skip
    return looks[-1]


def untrained_learner(captions: Sequence[str], folder: Path | str, *, seed: int) -> Clip:
    """The learner before any training; its tokenizer is learned and saved to `folder`."""
    config = model_config(build_tokenizer(captions, folder))
    clip = untrained_clip(config, seed=seed, preprocess=PREPROCESS, tokenizer=folder)
    clip.model.logit_scale.data.fill_(math.log(SCALE))
    clip.model.logit_scale.requires_grad_(False)
    return clip


def contrastive_steps(
    clip: Clip, images: Pixels, captions: Sequence[str], *, seed: int
) -> Iterator[int]:
    """Train without end, contrastively; yields the number of steps after every LOOK_EVERY."""
    pixels, tokens = clip.pixels(images), clip.tokens(captions)
    weights = [weight for weight in clip.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )
    for step, rows in enumerate(_batches(len(images), seed=seed), start=1):
        clip.model.train()
        image = F.normalize(clip.model.encode_image(pixels[rows]), dim=-1)
        text = F.normalize(clip.model.encode_text(tokens[rows]), dim=-1)
        logits, pair = SCALE * image @ text.T, torch.arange(len(rows))
        loss = (F.cross_entropy(logits, pair) + F.cross_entropy(logits.T, pair)) / 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.param_groups[0]["lr"] = LR * min(1.0, step / WARMUP)
        optimizer.step()
        if step % LOOK_EVERY == 0:
            yield step


def _batches(n: int, *, seed: int) -> Iterator[torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    while True:
        yield from torch.split(torch.randperm(n, generator=random), BATCH)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Torch on this many threads while the block lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
