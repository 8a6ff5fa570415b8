from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from headwater.decode import (
    DRAFT_GAP,
    MAX_BYTES,
    decode_rgb,
    encode_jpeg,
    encode_png,
    open_image,
    open_rgb,
)
from headwater.errors import DecodeError


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG that says it is 60,000 x 60,000 pixels."""
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


NOISE = np.random.default_rng(0).integers(0, 256, (40, 30, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<html>404</html>", "not an image"),
        (encode_jpeg(NOISE)[:300], "broken image"),
        (bomb(), "too many pixels"),
        (b"\0" * (MAX_BYTES + 1), "too many bytes"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not an image"),
    ],
    ids=["empty", "html", "truncated", "bomb", "huge", "postscript"],
)
def test_what_cannot_be_used_has_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode_rgb(data)


def test_png_is_lossless_and_jpeg_is_close() -> None:
    assert (decode_rgb(encode_png(NOISE)) == NOISE).all()
    smooth = np.full((16, 16, 3), 120, np.uint8)
    assert np.abs(decode_rgb(encode_jpeg(smooth)).astype(int) - 120).max() <= 2


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert (decode_rgb(saved(clear, format="PNG")) == 255).all()


def test_the_camera_orientation_is_applied() -> None:
    image = Image.fromarray(NOISE)
    exif = image.getexif()
    exif[0x0112] = 6
    assert decode_rgb(saved(image, format="PNG", exif=exif)).shape == (30, 40, 3)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    data = saved(frames[0], format="GIF", save_all=True, append_images=frames[1:])
    assert decode_rgb(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "I;16", "1"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new(mode, (3, 3))
    kind = "TIFF" if mode in ("CMYK", "I;16") else "PNG"
    assert decode_rgb(saved(image, format=kind)).shape == (3, 3, 3)


@pytest.mark.parametrize(
    ("side", "wanted", "comes_as"),
    [(255, 32, 128), (256, 32, 64), (127, 32, 127), (128, 32, 64), (130, 32, 65), (20, 32, 20)],
)
def test_a_large_jpeg_is_decoded_small_and_a_small_one_as_it_is(side, wanted, comes_as) -> None:
    data = encode_jpeg(np.full((side, 2 * side, 3), 120, np.uint8))
    image = open_rgb(data, wanted=wanted)
    assert image.height == comes_as
    assert image.height >= min(side, DRAFT_GAP * wanted)
    if comes_as == side:
        np.testing.assert_array_equal(image, open_rgb(data))


def test_what_is_no_jpeg_is_decoded_whole() -> None:
    assert open_rgb(encode_png(np.zeros((256, 256, 3), np.uint8)), wanted=32).size == (256, 256)


@pytest.mark.parametrize("codec", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_size_and_codec_are_those_of_the_file(codec: str) -> None:
    opened = open_image(saved(Image.fromarray(NOISE), format=codec))
    assert opened[1:] == (30, 40, codec)
    assert opened.image.size == (30, 40)


def test_several_pictures_of_a_camera_in_one_file_are_jpeg() -> None:
    pictures = [Image.fromarray(NOISE), Image.fromarray(NOISE[::-1])]
    data = saved(pictures[0], format="MPO", save_all=True, append_images=pictures[1:])
    assert open_image(data).codec == "JPEG"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_image(orientation: int) -> None:
    image = Image.fromarray(np.repeat(np.repeat(NOISE, 10, 0), 10, 1))
    exif = image.getexif()
    exif[0x0112] = orientation
    for codec, wanted in (("JPEG", None), ("JPEG", 32), ("PNG", None)):
        opened = open_image(saved(image, format=codec, exif=exif), wanted=wanted)
        lying = orientation > 4
        assert (opened.width, opened.height) == ((400, 300) if lying else (300, 400))
        assert (opened.image.width > opened.image.height) == lying
