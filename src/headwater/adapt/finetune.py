"""Finetuning: CLIP's image encoder and a linear head (or both towers) trained on a set's images.

One plain torch loop, in `_train`; an objective says which weights move and what is minimized. The
head it starts from is in head.py, the model itself in `headwater.clip`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch user knows it by
from torch import Tensor, nn

from headwater.clip import Clip
from headwater.errors import InputError, RunError

Floats = npt.NDArray[np.float32]
Pixels = npt.NDArray[np.uint8]
Log = list[dict[str, float]]

# torchvision's RandomResizedCrop with open_clip's scale; the other two are torchvision's own.
CROP_SCALE = (0.9, 1.0)  # share of the image's area
CROP_RATIO = (3 / 4, 4 / 3)  # width over height
CROP_TRIES = 10  # draws before the whole image is taken
MAX_LOGIT_SCALE = math.log(100)  # CLIP's own bound


@dataclass(frozen=True)
class EncoderAndHead:
    """A model and the linear head on its image features.

    Attributes:
        clip: the model. Inside `on_epoch` its weights are live: `clip.copy()` keeps them.
        head: (classes, d) float32; `clip.encode_images(images) @ head.T` are the logits.
    """

    clip: Clip
    head: Floats


StartingHead = Floats | Callable[[Clip], Floats]
OnEpoch = Callable[[int, EncoderAndHead], None]


@dataclass(frozen=True)
class _Given:
    """What there is to learn from, beside the pixels of `n` images."""

    n: int
    labels: npt.ArrayLike | None
    captions: Sequence[str] | None
    head: StartingHead


@dataclass(frozen=True)
class Objective:
    """What is trained: the weights, one target an image, the loss of a batch, the head so far."""

    parameters: list[nn.Parameter]
    targets: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    head: Callable[[], Floats]


def finetune(
    clip: Clip,
    images: Pixels,
    labels: npt.ArrayLike | None,
    head: StartingHead,
    *,
    lr: float,
    epochs: int,
    seed: int,
    objective: str = "cross_entropy",
    captions: Sequence[str] | None = None,
    batch_size: int = 512,
    weight_decay: float = 0.1,
    warmup_steps: int | None = None,
    grad_clip: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.95),
    threads: int | None = None,
    on_epoch: OnEpoch | None = None,
) -> tuple[EncoderAndHead, Log]:
    """Train a copy of `clip`; the original stays as it is.

    AdamW with weight decay on every weight, linear warmup, cosine to 0, gradients clipped by norm,
    float32; the defaults are those of the paper (PAPER.md section 5) but for the warmup. Every
    image of a batch is cropped at random (area 0.9 to 1, never flipped). The same arguments on the
    same number of threads give the same bits.

    Args:
        clip: where training starts.
        images: uint8 (n, s, s, 3) at the model's input size, as `Clip.resize` gives. A memory map
            stays on disk: only batches are read.
        labels: (n,) class indices; rows of the head. Not used by "contrastive".
        head: (classes, d), usually the zero-shot head; or a function that makes it from a model.
            "contrastive" needs the function: its head comes from the trained text tower.
        lr: the peak learning rate.
        epochs: passes over the images.
        seed: of the order, the crops, and whatever in the model is random.
        objective: "cross_entropy" trains image encoder and head on the labels; "contrastive" trains
            both towers with CLIP's loss on the captions.
        captions: (n,) texts for "contrastive".
        batch_size: images a step; the last step of an epoch takes what is left.
        weight_decay: AdamW's.
        warmup_steps: steps to reach `lr`; by default 10 % of all steps, at most 500. The paper's
            500 outlasts a short training, which then never reaches `lr`.
        grad_clip: largest gradient norm.
        betas: AdamW's.
        threads: CPU threads; torch's current number by default.
        on_epoch: called after every epoch with its number, from 1, and the model so far.

    Returns:
        The trained model with its head, and one row an epoch: epoch, step, lr and grad_norm at its
        last step, loss as the mean over images.

    Raises:
        InputError: images, labels, captions or head do not go together.
        RunError: the loss or its gradient is no longer finite; names epoch and batch.

    Example:
        >>> vision = {"image_size": 32, "patch_size": 16, "width": 16, "layers": 1, "head_width": 8}
        >>> text = {"context_length": 16, "width": 16, "heads": 2, "layers": 1}
        >>> from headwater.clip import untrained_clip
        >>> clip = untrained_clip({"embed_dim": 8, "vision_cfg": vision, "text_cfg": text})
        >>> images = np.zeros((4, 32, 32, 3), np.uint8)
        >>> head = np.zeros((2, 8), np.float32)
        >>> tuned, log = finetune(clip, images, [0, 1, 0, 1], head, lr=1e-3, epochs=2, seed=0)
        >>> tuned.head.shape, [row["epoch"] for row in log]
        ((2, 8), [1, 2])
    """
    if objective not in OBJECTIVES:
        raise InputError("unknown objective", expected=" or ".join(OBJECTIVES), seen=objective)
    _check_images(images, clip)
    with _reproducible(seed, threads):
        tuned = clip.copy()
        goal = OBJECTIVES[objective](tuned, _Given(len(images), labels, captions, head))
        optimizer = torch.optim.AdamW(
            goal.parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=True
        )
        steps = epochs * math.ceil(len(images) / batch_size)
        warmup = min(500, steps // 10) if warmup_steps is None else warmup_steps

        def schedule(step: int) -> float:
            return learning_rate(step, peak=lr, steps=steps, warmup_steps=warmup)

        log = []
        for row in _train(
            tuned, images, goal, optimizer, schedule,
            epochs=epochs, batch_size=batch_size, grad_clip=grad_clip, seed=seed,
        ):  # fmt: skip
            log.append(row)
            if on_epoch:
                on_epoch(len(log), EncoderAndHead(tuned, goal.head()))
        return EncoderAndHead(tuned, goal.head()), log


def _train(
    clip: Clip,
    images: Pixels,
    goal: Objective,
    optimizer: torch.optim.Optimizer,
    schedule: Callable[[int], float],
    *,
    epochs: int,
    batch_size: int,
    grad_clip: float,
    seed: int,
) -> Iterator[dict[str, float]]:
    # On the CPU whatever the device, so that every device sees the same order and crops.
    random = torch.Generator().manual_seed(seed)
    step = 0
    for epoch in range(1, epochs + 1):
        clip.model.train()
        total = 0.0
        order = torch.randperm(len(images), generator=random)
        for batch, rows in enumerate(torch.split(order, batch_size), start=1):
            rate = schedule(step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            pixels = random_crops(clip.pixels(images[rows.numpy()]), random)
            loss = goal.loss(pixels, goal.targets[rows].to(clip.device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(goal.parameters, grad_clip)
            if not math.isfinite(loss.item() + norm.item()):
                raise RunError(
                    f"training diverged in epoch {epoch}, batch {batch}",
                    expected="a finite loss and gradient",
                    seen=f"loss {loss.item():g}, gradient norm {norm.item():g}",
                    do="Lower the learning rate.",
                )
            optimizer.step()
            step += 1
            total += loss.item() * len(rows)
        clip.model.eval()
        yield {
            "epoch": epoch, "step": step, "lr": rate,
            "loss": total / len(images), "grad_norm": norm.item(),
        }  # fmt: skip


def learning_rate(step: int, *, peak: float, steps: int, warmup_steps: int) -> float:
    """The learning rate of a step, counted from 0: linear up to `peak`, then cosine to 0.

    Example:
        >>> [round(learning_rate(s, peak=1.0, steps=6, warmup_steps=2), 2) for s in range(6)]
        [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    done = (step - warmup_steps) / (steps - warmup_steps)
    return peak * (1 + math.cos(math.pi * done)) / 2


def random_crops(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Cut a random rectangle out of every image and resize it back: (n, 3, s, s) to the same.

    The rectangles are those of torchvision's RandomResizedCrop with open_clip's scale 0.9 to 1,
    but for whole pixels: edges may lie between them.
    """
    boxes = crop_boxes(len(pixels), random)
    x, y, width, height = boxes.unbind(1)
    # affine_grid counts from -1 to 1: half the size is the scale, the center the shift.
    zero = torch.zeros_like(x)
    rows = [width, zero, 2 * x + width - 1, zero, height, 2 * y + height - 1]
    theta = torch.stack(rows, dim=1).view(-1, 2, 3).to(pixels.device)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bicubic", padding_mode="border", align_corners=False)


def crop_boxes(n: int, random: torch.Generator) -> Tensor:
    """Random rectangles in a unit square, (n, 4): left, top, width, height.

    Area and ratio are drawn until the rectangle fits, ten times at most; then it is the whole.
    """
    area = torch.empty(n, CROP_TRIES).uniform_(*CROP_SCALE, generator=random)
    low, high = (math.log(r) for r in CROP_RATIO)
    ratio = torch.empty(n, CROP_TRIES).uniform_(low, high, generator=random).exp()
    sizes = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=-1)
    fits = (sizes <= 1).all(dim=-1)
    first = sizes[torch.arange(n), fits.int().argmax(dim=1)]
    size = torch.where(fits.any(dim=1, keepdim=True), first, torch.ones(2))
    corner = torch.rand(n, 2, generator=random) * (1 - size)
    return torch.cat([corner, size], dim=1)


def _cross_entropy(clip: Clip, given: _Given) -> Objective:
    start = given.head(clip) if callable(given.head) else given.head
    weight = nn.Parameter(torch.tensor(start, dtype=torch.float32, device=clip.device))
    if weight.ndim != 2 or weight.shape[1] != clip.dim:
        raise InputError("head", expected=f"(classes, {clip.dim})", seen=str(tuple(weight.shape)))
    targets = _targets(given, classes=len(weight))

    def loss(pixels: Tensor, targets: Tensor) -> Tensor:
        features = F.normalize(clip.model.encode_image(pixels), dim=-1)
        return F.cross_entropy(features @ weight.T, targets)

    def now() -> Floats:
        weights: Floats = weight.detach().cpu().numpy().copy()
        return weights

    return Objective([*clip.model.visual.parameters(), weight], targets, loss, now)


def _contrastive(clip: Clip, given: _Given) -> Objective:
    captions, head = given.captions, given.head
    if captions is None or len(captions) != given.n:
        seen = "none" if captions is None else f"{len(captions):,}"
        raise InputError("captions", expected=f"{given.n:,}, one an image", seen=seen)
    if not callable(head):
        raise InputError(
            "head",
            expected="a function that makes it from the trained model",
            seen="weights",
            do="Contrastive training moves the text tower the head comes from.",
        )

    def loss(pixels: Tensor, tokens: Tensor) -> Tensor:
        scale = clip.model.logit_scale
        scale.data.clamp_(0, MAX_LOGIT_SCALE)
        image = F.normalize(clip.model.encode_image(pixels), dim=-1)
        text = F.normalize(clip.model.encode_text(tokens), dim=-1)
        logits = scale.exp() * image @ text.T
        pair = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, pair) + F.cross_entropy(logits.T, pair)) / 2

    def now() -> Floats:
        return head(clip)

    return Objective(list(clip.model.parameters()), clip.tokens(captions), loss, now)


OBJECTIVES = {"cross_entropy": _cross_entropy, "contrastive": _contrastive}


def _targets(given: _Given, *, classes: int) -> Tensor:
    array = np.asarray(given.labels if given.labels is not None else [])
    if array.shape != (given.n,) or array.dtype.kind not in "iu":
        seen = f"{array.dtype} {array.shape}"
        raise InputError("labels", expected=f"{given.n:,} class indices, one an image", seen=seen)
    if array.min() < 0 or array.max() >= classes:
        seen = f"{array.min()} to {array.max()}"
        raise InputError("labels", expected=f"0 to {classes - 1}, rows of the head", seen=seen)
    return torch.tensor(array, dtype=torch.long)


def _check_images(images: Pixels, clip: Clip) -> None:
    side = clip.image_size
    if images.ndim != 4 or images.shape[1:] != (side, side, 3) or images.dtype != np.uint8:
        raise InputError(
            "images",
            expected=f"uint8 (n, {side}, {side}, 3)",
            seen=f"{images.dtype} {images.shape}",
            do="Resize them once with Clip.resize.",
        )
    if not len(images):
        raise InputError("no images to train on", expected="at least one", seen="none")


@contextmanager
def _reproducible(seed: int, threads: int | None) -> Iterator[None]:
    """Torch's global randomness (dropout) and threads set for one training, then set back."""
    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads or before)
        try:
            yield
        finally:
            torch.set_num_threads(before)
