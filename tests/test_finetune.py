"""finetune.py: toys it must learn, a plain loop it must agree with, bits it must repeat."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from tests.tiny_clip import tinted_images, tiny_clip
from torchvision.transforms import RandomResizedCrop

from headwater.adapt.finetune import (
    CROP_SCALE,
    EncoderAndHead,
    crop_boxes,
    finetune,
    learning_rate,
    random_crops,
)
from headwater.adapt.head import zero_shot_head
from headwater.clip import load_clip
from headwater.errors import InputError, RunError

NAMES = ["rose", "fern", "moss", "iris", "lily", "sage"]
CLASSES = len(NAMES)


@pytest.fixture(scope="module")
def clip():
    return tiny_clip()


@pytest.fixture(scope="module")
def head(clip):
    return make_head(clip)


def make_head(clip):
    return zero_shot_head(clip.class_text_features(NAMES, ["a {}"]), clip.logit_scale)


def weights(clip) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in clip.model.state_dict().items()}


def same(a: EncoderAndHead, b: EncoderAndHead) -> bool:
    ours, theirs = weights(a.clip), weights(b.clip)
    equal = all(np.array_equal(ours[name], theirs[name]) for name in ours)
    return equal and np.array_equal(a.head, b.head)


def accuracy(tuned: EncoderAndHead, images: np.ndarray, labels: np.ndarray) -> float:
    logits = tuned.clip.encode_images(images) @ tuned.head.T
    return float((logits.argmax(axis=1) == labels).mean())


def test_a_toy_is_learned_and_the_original_left_alone(clip, head):
    before = weights(clip)
    images, labels = tinted_images(300, classes=CLASSES, seed=1)
    unseen = tinted_images(300, classes=CLASSES, seed=2)
    tuned, log = finetune(clip, images, labels, head, lr=2e-3, epochs=4, seed=0, batch_size=30)
    assert accuracy(EncoderAndHead(clip, head), *unseen) < 0.5
    assert accuracy(tuned, *unseen) > 0.9
    assert [row["epoch"] for row in log] == [1, 2, 3, 4]
    assert log[-1]["step"] == 40
    assert log[-1]["loss"] < log[0]["loss"]
    for name, tensor in weights(clip).items():
        np.testing.assert_array_equal(tensor, before[name])


def plain_loop(clip, images, labels, head, *, lr, epochs, seed, batch_size) -> EncoderAndHead:
    """The same training as one would write it down: an image at a time, torch's own parts."""
    generator = np.random.default_rng(seed)
    model, weight = copy.deepcopy(clip.model), torch.nn.Parameter(torch.tensor(head))
    optimizer = torch.optim.AdamW(
        [*model.visual.parameters(), weight], lr=lr, betas=(0.9, 0.95), weight_decay=0.1
    )
    steps = epochs * -(-len(images) // batch_size)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    crop = RandomResizedCrop(clip.image_size, scale=CROP_SCALE, interpolation=3, antialias=True)
    for _ in range(epochs):
        order = generator.permutation(len(images))
        for rows in np.split(order, range(batch_size, len(images), batch_size)):
            pixels = torch.stack([crop(image) for image in clip.pixels(images[rows])])
            features = F.normalize(model.encode_image(pixels), dim=-1)
            loss = F.cross_entropy(features @ weight.T, torch.tensor(labels[rows]))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_([*model.visual.parameters(), weight], 1.0)
            optimizer.step()
            rate.step()
    tuned = copy.copy(clip)
    object.__setattr__(tuned, "model", model)
    return EncoderAndHead(tuned, weight.detach().numpy())


def test_a_plain_loop_reaches_the_same_accuracy(clip, head):
    images, labels = tinted_images(200, classes=CLASSES, seed=1)
    labels = np.where(np.arange(200) % 4 == 0, np.roll(labels, 1), labels)  # a quarter is wrong
    unseen = tinted_images(400, classes=CLASSES, seed=2)
    settings = {"lr": 1e-3, "epochs": 8, "batch_size": 25}
    ours, plain = [], []
    for seed in range(2):
        tuned, _ = finetune(clip, images, labels, head, seed=seed, warmup_steps=0, **settings)
        ours.append(accuracy(tuned, *unseen))
        torch.manual_seed(seed)
        tuned = plain_loop(clip, images, labels, head, seed=seed, **settings)
        plain.append(accuracy(tuned, *unseen))
    assert 0.85 < np.mean(plain) < 0.98
    assert abs(np.mean(ours) - np.mean(plain)) < 0.03


CAPTIONS = [f"a {name}" for name in NAMES]


@pytest.mark.parametrize("objective", ["cross_entropy", "contrastive"])
def test_the_same_seed_gives_the_same_bits(clip, objective):
    images, labels = tinted_images(60, classes=CLASSES)
    captions = [CAPTIONS[label] for label in labels]

    def tune(seed, on_epoch=None):
        return finetune(
            clip, images, labels, make_head, objective=objective, captions=captions,
            lr=1e-3, epochs=2, batch_size=25, seed=seed, threads=1, on_epoch=on_epoch,
        )  # fmt: skip

    first, log = tune(3)
    again, log_again = tune(3)
    watched, _ = tune(3, on_epoch=lambda epoch, tuned: tuned.clip.encode_images(images))
    other, _ = tune(4)
    assert same(first, again)
    assert same(first, watched)
    assert log == log_again
    assert not same(first, other)


def test_contrastive_training_moves_the_text_tower_and_the_head_with_it(clip, head):
    images, labels = tinted_images(300, classes=CLASSES, seed=1)
    captions = [CAPTIONS[label] for label in labels]
    tuned, _ = finetune(
        clip, images, None, make_head, objective="contrastive", captions=captions,
        lr=3e-3, epochs=6, batch_size=30, seed=0,
    )  # fmt: skip
    np.testing.assert_array_equal(tuned.head, make_head(tuned.clip))
    assert np.abs(tuned.head - head).max() > 0.1
    assert accuracy(tuned, *tinted_images(300, classes=CLASSES, seed=2)) > 0.8


def test_cross_entropy_leaves_the_text_tower_alone(clip, head):
    images, labels = tinted_images(20, classes=CLASSES)
    tuned, _ = finetune(clip, images, labels, head, lr=1e-3, epochs=1, seed=0)
    np.testing.assert_array_equal(tuned.clip.encode_texts(CAPTIONS), clip.encode_texts(CAPTIONS))
    assert np.abs(tuned.clip.encode_images(images) - clip.encode_images(images)).max() > 1e-4


def test_every_epoch_can_be_kept(clip, head):
    images, labels = tinted_images(40, classes=CLASSES)
    kept = {}

    def keep(epoch, tuned):
        kept[epoch] = EncoderAndHead(tuned.clip.copy(), tuned.head)

    tuned, _ = finetune(clip, images, labels, head, lr=1e-3, epochs=3, seed=0, on_epoch=keep)
    assert list(kept) == [1, 2, 3]
    assert same(kept[3], tuned)
    assert not same(kept[2], tuned)


def test_the_tuned_model_opens_in_open_clip(clip, head, tmp_path):
    images, labels = tinted_images(20, classes=CLASSES)
    tuned, _ = finetune(clip, images, labels, head, lr=1e-3, epochs=1, seed=0)
    tuned.clip.save(tmp_path, head=tuned.head, labels=NAMES)
    theirs = open_clip.create_model(f"local-dir:{tmp_path}").eval()
    with torch.no_grad():
        features = theirs.encode_image(tuned.clip.pixels(images), normalize=True)
    np.testing.assert_allclose(tuned.clip.encode_images(images), features, atol=1e-6)
    assert load_clip(tmp_path).digest


def test_torch_is_left_as_it_was_and_images_may_be_read_only(clip, head, tmp_path):
    images, labels = tinted_images(20, classes=CLASSES)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    from_disk, _ = finetune(clip, mapped, labels, head, lr=1e-3, epochs=1, seed=0, threads=1)
    in_memory, _ = finetune(clip, images, labels, head, lr=1e-3, epochs=1, seed=0, threads=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert same(from_disk, in_memory)


def test_divergence_names_epoch_and_batch(clip, head):
    images, labels = tinted_images(40, classes=CLASSES)
    with pytest.raises(RunError, match="epoch 1, batch 1"):
        finetune(clip, images, labels, head * np.nan, lr=1e-3, epochs=1, seed=0)
    with pytest.raises(RunError, match=r"epoch 2, batch 1.*finite.*Lower the learning rate"):
        finetune(clip, images, labels, head, lr=1e30, epochs=3, seed=0, warmup_steps=0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": np.zeros((4, 16, 16, 3), np.uint8)}, r"uint8 \(n, 32, 32, 3\)"),
        ({"images": np.zeros((4, 32, 32, 3), np.float32)}, "float32"),
        ({"images": np.zeros((0, 32, 32, 3), np.uint8), "labels": []}, "no images"),
        ({"labels": [0, 1]}, "4 class indices"),
        ({"labels": None}, "4 class indices"),
        ({"labels": [0.0, 1.0, 0.0, 1.0]}, "float64"),
        ({"labels": [0, 1, 0, CLASSES]}, "rows of the head"),
        ({"labels": [0, 1, 0, -1]}, "rows of the head"),
        ({"head": np.zeros((2, 7), np.float32)}, r"\(classes, 16\)"),
        ({"objective": "guess"}, "cross_entropy or contrastive"),
        ({"objective": "contrastive"}, "captions"),
        ({"objective": "contrastive", "captions": ["x"]}, "4, one an image"),
        ({"objective": "contrastive", "captions": ["x"] * 4}, "a function"),
    ],
)
def test_what_does_not_go_together_is_refused(clip, head, change, says):
    images = np.zeros((4, 32, 32, 3), np.uint8)
    given = {"images": images, "labels": [0, 1, 0, 1], "head": head} | change
    with pytest.raises(InputError, match=says):
        finetune(clip, **given, lr=1e-3, epochs=1, seed=0)


def test_the_learning_rate_warms_up_and_falls_to_nothing():
    rates = [learning_rate(s, peak=0.1, steps=100, warmup_steps=10) for s in range(100)]
    np.testing.assert_allclose(rates[:10], 0.01 * np.arange(1, 11))
    assert max(rates) == rates[9] == 0.1
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] < 1e-4
    assert rates[55] == pytest.approx(0.05)


def test_a_warmup_longer_than_the_training_never_reaches_the_peak():
    rates = [learning_rate(s, peak=1.0, steps=480, warmup_steps=500) for s in range(480)]
    assert rates[-1] == pytest.approx(480 / 500)


def test_crop_boxes_are_distributed_as_torchvisions():
    boxes = crop_boxes(4000, torch.Generator().manual_seed(0)).numpy()
    assert (boxes >= 0).all()
    assert (boxes[:, :2] + boxes[:, 2:] <= 1 + 1e-6).all()
    torch.manual_seed(0)
    big = torch.empty(1, 1000, 1000)  # so large that whole pixels do not matter
    draws = [RandomResizedCrop.get_params(big, CROP_SCALE, (3 / 4, 4 / 3)) for _ in range(4000)]
    top, left, height, width = np.array(draws).T / 1000
    theirs = np.stack([left, top, width, height], axis=1)
    whole = (boxes[:, 2:] == 1).all(axis=1).mean(), (theirs[:, 2:] == 1).all(axis=1).mean()
    assert whole[0] == pytest.approx(whole[1], abs=0.03)
    levels = np.linspace(0.02, 0.98, 13)
    for ours, reference in zip(boxes.T, theirs.T, strict=True):
        np.testing.assert_allclose(
            np.quantile(ours, levels), np.quantile(reference, levels), atol=0.01
        )


def test_crops_show_what_lies_inside_their_box():
    ramp = (torch.arange(32) + 0.5) / 32  # the value is the place, from 0 to 1
    across, down = ramp.expand(32, 32), ramp[:, None].expand(32, 32)
    pixels = torch.stack([across, down, torch.ones(32, 32)]).expand(50, 3, 32, 32)
    crops = random_crops(pixels, torch.Generator().manual_seed(7))
    boxes = crop_boxes(50, torch.Generator().manual_seed(7))
    inside = slice(3, -3)  # away from the border, where a ramp stays a ramp
    for crop, (left, top, width, height) in zip(crops, boxes, strict=True):
        np.testing.assert_allclose(crop[0, 9, inside], (left + width * ramp)[inside], atol=2e-3)
        np.testing.assert_allclose(crop[1, inside, 9], (top + height * ramp)[inside], atol=2e-3)
        np.testing.assert_allclose(crop[2], 1, atol=1e-5)
