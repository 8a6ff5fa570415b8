"""How near `pool embed` comes to the pace of the bare model, both in one run.

    python benchmarks/embed.py --pool ../shared/data/pool-photos     # 1,000 of its photos
    python benchmarks/embed.py                                       # photos made on the spot

ViT-B-32 with random weights, float32 without TF32 on both sides. The bare model runs on normalized
tensors and padded token ids that lie in its memory already; `pool embed` reads a webdataset from
disk, decodes, resizes, tokenizes and writes float16 shards. The bare model is timed before and
after, and the ratio is to the mean of both, for a machine's pace drifts. Aim: 0.9 for images.

Measured: see LOG.md, "pool embed, measured".
"""

import argparse
import io
import tarfile
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import open_clip
import polars as pl
import torch

from headwater.clip import untrained_clip
from headwater.clip.precision import choose_precision, computing
from headwater.decode import DecodeError, encode_jpeg, open_rgb
from headwater.pool import open_pool, read_images, read_table
from headwater.steps.embed import embed

SHARD = 10_000  # pairs, as img2dataset's
HELD = 1_000  # images the bare model holds as tensors, and takes again and again


def made_photos():
    """Smooth random pictures of 256 px, with a caption each; endless."""
    rng = np.random.default_rng(0)
    sentence = "a photo of the old red house by the sea with two dogs and green trees in spring"
    words = sentence.split(" ")
    for number in range(500):
        small = torch.tensor(rng.uniform(0, 255, (1, 3, 16, 16)), dtype=torch.float32)
        large = torch.nn.functional.interpolate(small, size=(256, 256), mode="bicubic")
        pixels = large[0].permute(1, 2, 0).clamp(0, 255).numpy().astype(np.uint8)
        yield encode_jpeg(pixels, quality=90), " ".join(rng.choice(words, 5 + number % 10))


def pool_photos(pool):
    """Images and captions of a pool, from front to back."""
    for shard in open_pool(pool).shards:
        captions = dict(read_table(shard).select("key", "caption").iter_rows())
        for key, _, data in read_images(shard, list(captions)):
            yield data, captions[key] or ""


def write_pool(folder, pairs):
    """A webdataset of (bytes, caption) pairs."""
    for number, first in enumerate(range(0, len(pairs), SHARD)):
        own = pairs[first : first + SHARD]
        keys = [f"{number:05d}{row:04d}" for row in range(len(own))]
        with tarfile.open(folder / f"{number:05d}.tar", "w") as tar:
            for key, (data, _) in zip(keys, own, strict=True):
                member = tarfile.TarInfo(f"{key}.jpg")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
        table = pl.DataFrame({"key": keys, "caption": [caption for _, caption in own]})
        table.write_parquet(folder / f"{number:05d}.parquet")
    return folder


def decoded(pairs):
    """The pictures of pairs, those that can be decoded."""
    for data, _ in pairs:
        try:
            yield open_rgb(data)
        except DecodeError:
            continue


class Bare:
    """The model alone, on what lies in its memory."""

    def __init__(self, clip, pairs, *, batch_size, precision):
        self.clip, self.precision = clip, precision
        images = torch.as_tensor(clip.resize(list(decoded(pairs[:HELD]))))
        tokens = clip.tokens([caption for _, caption in pairs[:HELD]]).to(clip.device)
        self.images = [clip.pixels(part).contiguous() for part in images.split(batch_size)]
        self.tokens = list(tokens.split(batch_size))

    def rate(self, encode, batches, n):
        """Rows a second over `n` rows or a little more."""
        self._wait()
        began, done = time.perf_counter(), 0
        with computing(self.precision, self.clip.device):
            for batch in cycle(batches):
                encode(batch)
                done += len(batch)
                if done >= n:
                    break
        self._wait()
        return done / (time.perf_counter() - began)

    def images_rate(self, n):
        return self.rate(self.clip.model.encode_image, self.images, n)

    def captions_rate(self, n):
        return self.rate(self.clip.model.encode_text, self.tokens, n)

    def _wait(self):
        if self.clip.device.type == "cuda":
            torch.cuda.synchronize()


def embed_rate(pool, n, out, **how):
    """Pairs a second of a whole `pool embed`."""
    began = time.perf_counter()
    embed(pool, out, **how)
    return n / (time.perf_counter() - began)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=Path, help="a pool with images; made if not given")
    parser.add_argument("--photos", type=int, help="1,000; on a GPU 50,000, taken again as needed")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--images-only", action="store_true")
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    n = asked.photos or (50_000 if device == "cuda" else 1_000)
    precision = choose_precision(asked.precision, torch.device(device))
    clip = untrained_clip(open_clip.get_model_config("ViT-B-32"))
    clip.model.to(device)
    pairs = list(islice(pool_photos(asked.pool) if asked.pool else made_photos(), n))
    pairs = list(islice(cycle(pairs), n))
    name = (
        torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    )
    print(f"{device} ({name}), {precision}, batches of {asked.batch_size}, {n:,} photos")
    how = {"clip": clip, "batch_size": asked.batch_size, "precision": precision}
    how["workers"] = asked.workers
    bare = Bare(clip, pairs, batch_size=asked.batch_size, precision=precision)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for part, own in (("few", pairs[:64]), ("all", pairs)):
            (folder / part).mkdir()
            write_pool(folder / part, own)
        embed(folder / "few", folder / "warm", **how | {"workers": asked.workers or 2})
        bare.images_rate(asked.batch_size)
        before = bare.images_rate(n)
        for number in range(asked.rounds):
            out = folder / f"images-{number}"
            ours = embed_rate(folder / "all", n, out, only="images", **how)
            after = bare.images_rate(n)
            ratio = 2 * ours / (before + after)
            print(
                f"images: bare {before:,.1f} and {after:,.1f}/s, embed {ours:,.1f}/s: {ratio:.3f}"
            )
            before = after
        if asked.images_only:
            return
        captions = bare.captions_rate(n // 4)
        both = 1 / (1 / before + 1 / captions)
        ours = embed_rate(folder / "all", n, folder / "both", **how)
        print(f"captions: bare {captions:,.1f}/s, padded to {clip.tokens(['']).shape[1]} tokens")
        print(f"images + captions: bare {both:,.1f}/s, embed {ours:,.1f}/s: {ours / both:.3f}")
        print(f"that is {ours / before:.3f} of the bare model on images alone")


if __name__ == "__main__":
    main()
