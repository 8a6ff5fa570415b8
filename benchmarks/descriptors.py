"""What the copy descriptors catch, what they take for a copy that is none, and how fast they are.

    python benchmarks/descriptors.py                    # the built-in one; speeds of all three
    python benchmarks/descriptors.py --descriptor sscd  # one that needs weights, where it has them

On the real photographs of ../shared/data: the 75 labelled candidates of `copies`, its 200
references after one change at a time (the changes are those of tests/real/test_copies_real.py), and
600 other photographs of the pool after the same change. Speeds are of pictures of 256 x 256 in
memory; isc and sscd are timed with random weights, which takes as long. Measured, 2 cores:
docs/copies.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision.models import resnet50

from headwater.curate.copies import find_copies
from headwater.descriptors import Descriptor, isc, open_descriptor, sscd
from headwater.descriptors.network import Network

OTHERS = 600  # photographs that copy no reference
SECONDS = 8.0  # a speed is measured for


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--descriptor", default="builtin", choices=["builtin", "isc", "sscd"])
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args()
    descriptor = open_descriptor(options.descriptor, weights=options.weights)
    print(f"{descriptor.name}, copies above {descriptor.threshold}")
    judge(descriptor)
    print("\nimages/s")
    for name, describe in speedy().items():
        print(f"  {name:8} {rate(describe):8.1f}")


def judge(descriptor: Descriptor) -> None:
    tests = real_tests()
    images = tests.load(tests.COPIES / "reference")
    references = descriptor.describe(images)

    def found(pictures: Any) -> Any:
        return find_copies(
            descriptor.describe(pictures), references, threshold=descriptor.threshold
        )

    pairs = json.loads((tests.COPIES / "labels.json").read_text())
    names = [path.name for path in sorted((tests.COPIES / "reference").iterdir())]
    taken = found(Image.open(tests.COPIES / "candidates" / pair["candidate"]) for pair in pairs)
    named = np.array([names.index(pair["reference"]) for pair in pairs])
    copies = np.array([pair["copy"] for pair in pairs])
    right = ((taken == named) & copies).sum()
    print(f"labelled: {right} of {copies.sum()} copies found, {(taken >= 0).sum() - right} others")
    pool = photographs(tests.POOL / "00003.tar")
    others = [image for image, copy in zip(pool, found(pool), strict=True) if copy < 0][:OTHERS]
    print(f"{len(images)} references changed, found; {OTHERS} others changed, taken for copies")
    for name, change in tests.CHANGES.items():
        own = found(change(image) for image in images) == np.arange(len(images))
        false = found(change(image) for image in others) >= 0
        print(f"  {name:34} {own.mean():7.1%} {false.mean():7.1%}")


def real_tests() -> Any:
    path = Path(__file__).parents[1] / "tests" / "real" / "test_copies_real.py"
    spec = importlib.util.spec_from_file_location("test_copies_real", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def photographs(shard: Path) -> list[Image.Image]:
    with tarfile.open(shard) as tar:
        members = [m for m in tar.getmembers() if m.name.endswith(".jpg")][: 2 * OTHERS]
        return [Image.open(io.BytesIO(tar.extractfile(m).read())) for m in members]  # type: ignore[union-attr]


def speedy() -> dict[str, Callable[[Any], Any]]:
    """Each descriptor on this processor, the networks with random weights."""

    class Gem(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.clamp(min=1e-6).pow(3).mean(dim=(2, 3)).pow(1 / 3)

    trunk = resnet50(num_classes=sscd.DIMENSIONS).eval()
    trunk.avgpool = Gem()
    network = isc.build_isc()
    state = network.state_dict()
    isc.fill(
        network, {name: torch.ones(value.shape) / 99 for name, value in state.items()}, name=""
    )
    seen = {
        "sscd": Network(trunk, sscd.seen_size, sscd.MEAN, sscd.STD, sscd.DIMENSIONS, "cpu", 1),
        "isc": Network(network, isc.seen_size, isc.MEAN, isc.STD, isc.DIMENSIONS, "cpu", 1),
    }
    return {
        "builtin": open_descriptor("builtin").describe,
        **{name: network.describe for name, network in seen.items()},
    }


def rate(describe: Callable[[Any], Any]) -> float:
    pictures = list(np.random.default_rng(0).integers(256, size=(64, 256, 256, 3), dtype=np.uint8))
    describe(pictures[:1])
    began, done, many = time.perf_counter(), 0, 1
    while (seconds := time.perf_counter() - began) < SECONDS:
        describe(pictures[:many])
        done += many
        many = min(64, 2 * many)
    return done / seconds


if __name__ == "__main__":
    main()
