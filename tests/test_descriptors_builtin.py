"""The descriptor that needs no weights: what it forgives and what it does not."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from headwater.descriptors.builtin import COPY_THRESHOLD, DIMENSIONS, describe
from headwater.errors import InputError


def scene(seed, size=(96, 72)):
    """Colored boxes and discs on a slope: what a photograph is to a descriptor."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width] / height
    picture = np.outer(y + rng.uniform(-1, 1) * x, rng.uniform(40, 120, 3))
    picture = picture.reshape(height, width, 3)
    for number in range(14):
        cx, cy, r = rng.uniform(0, 1.3), rng.uniform(0, 1), rng.uniform(0.04, 0.25)
        disc = np.hypot(x - cx, y - cy) < r
        box = (abs(x - cx) < r) & (abs(y - cy) < rng.uniform(0.03, 0.2))
        picture[box if number % 2 else disc] = rng.uniform(0, 255, 3)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def saved(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def cropped(image, left, top, share=0.9):
    width, height = round(image.width * share), round(image.height * share)
    x, y = round(left * (image.width - width)), round(top * (image.height - height))
    return image.crop((x, y, x + width, y + height))


CHANGES = {
    "re-encoded": lambda image: saved(image, 30),
    "halved": lambda image: image.resize((image.width // 2, image.height // 2)),
    "enlarged": lambda image: image.resize((image.width * 3, image.height * 3)),
    "squashed": lambda image: image.resize((64, 64)),
    "cut to its middle square": lambda image: image.crop((12, 0, 84, 72)),
    "cropped at the left": lambda image: cropped(image, 0, 0.5),
    "cropped at a corner": lambda image: cropped(image, 1, 0),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.85),
    "duller": lambda image: ImageEnhance.Color(image).enhance(0.85),
    "black and white": lambda image: image.convert("L"),
    "mirrored, cropped, saved": lambda image: saved(
        cropped(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 0, 1), 50
    ),
}


@pytest.fixture(scope="module")
def scenes():
    return [scene(seed) for seed in range(60)]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_picture_is_still_the_same(scenes, change):
    same = (describe([change(image) for image in scenes]) * describe(scenes)).sum(axis=1)
    assert (same > COPY_THRESHOLD).mean() >= 0.95


def test_another_picture_is_not(scenes):
    rows = describe(scenes)
    alike = (rows @ rows.T)[~np.eye(len(rows), dtype=bool)]
    assert (alike > COPY_THRESHOLD).mean() <= 0.001


def test_the_mirror_changes_nothing_at_all():
    square = [scene(seed, (64, 64)) for seed in range(5)]
    mirrored = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in square]
    np.testing.assert_allclose(describe(mirrored), describe(square), atol=1e-4)


def test_upside_down_is_another_picture(scenes):
    turned = describe([image.transpose(Image.Transpose.ROTATE_180) for image in scenes])
    assert ((turned * describe(scenes)).sum(axis=1) > COPY_THRESHOLD).mean() <= 0.05


def test_rows_are_unit_float32_and_do_not_depend_on_their_neighbors(scenes):
    rows = describe(scenes)
    assert rows.dtype == np.float32
    assert rows.shape == (60, DIMENSIONS)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(describe(scenes[7:8]), rows[7:8])
    np.testing.assert_array_equal(describe(scenes[::-1]), rows[::-1])


def test_more_pictures_than_a_block_come_back_in_order(scenes):
    many = describe(scenes * 5)
    np.testing.assert_array_equal(many, np.tile(many[:60], (5, 1)))


def test_arrays_and_images_say_the_same(scenes):
    arrays = [np.asarray(image) for image in scenes[:3]]
    np.testing.assert_array_equal(describe(arrays), describe(scenes[:3]))
    np.testing.assert_array_equal(describe(np.stack(arrays)), describe(scenes[:3]))
    np.testing.assert_array_equal(describe(iter(arrays)), describe(scenes[:3]))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_any_mode_of_image_is_read(scenes, mode):
    row = describe([scenes[0].convert(mode)])
    assert np.isfinite(row).all()
    assert (row @ describe(scenes[:1]).T).item() > COPY_THRESHOLD


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (3, 2, 3), (2000, 8, 3)])
def test_odd_and_blank_pictures_have_a_descriptor(shape):
    rows = describe([np.full(shape, value, np.uint8) for value in (0, 255)])
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


def test_a_blank_picture_copies_no_scene(scenes):
    blank = describe([np.full((32, 32, 3), 200, np.uint8)])
    assert (blank @ describe(scenes).T).max() < COPY_THRESHOLD


def test_no_pictures_no_rows():
    assert describe([]).shape == (0, DIMENSIONS)


@pytest.mark.parametrize(
    "thing", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(thing):
    with pytest.raises(InputError, match=r"expected PIL images or uint8 \(h, w, 3\)"):
        describe([thing])
