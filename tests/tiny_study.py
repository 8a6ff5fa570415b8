"""A whole study in numbers and small pictures, as `ReportData` wants it; nothing is trained."""

import io
from functools import lru_cache

import numpy as np
import polars as pl
from PIL import Image, ImageDraw

from headwater.compare import verdict_rows, verdict_sentence
from headwater.report import ReportData

SCALES, SEEDS, IMAGES = (100, 300, 900), (0, 1, 2), 600
METRICS = {"zero_shot": 0.0, "linear_probe": 0.09}
GROWTH = {  # accuracy at 100 images, gain by 900
    "captions": (0.70, 0.11),
    "neighbors": (0.71, 0.08),
    "random": (0.62, 0.02),
    "synthetic": (0.68, 0.05),
    "mixed": (0.70, 0.09),
    "perturbed-0.0": (0.70, 0.10),
    "perturbed-0.3": (0.69, 0.08),
    "perturbed-0.6": (0.66, 0.04),
}
LINES = {"off-the-shelf": (0, 0.61), "labelled": (200, 0.84)}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAMES = {str(digit): word for digit, word in enumerate(WORDS)}
PRIMARY = ("zero_shot", None, "captions", "synthetic")
PAIRS = [("captions", "synthetic"), ("neighbors", "synthetic"), ("mixed", "captions")]
PAIRS += [("perturbed-0.6", "captions")]
PAIRS += [(arm, "off-the-shelf") for arm in (*GROWTH, "labelled")]


def arms_at():
    """(arm, scale, accuracy, seeds) of everything that was tested."""
    for arm, (start, gain) in GROWTH.items():
        for step, scale in enumerate(SCALES):
            yield arm, scale, start + gain * step / 2, SEEDS
    yield "off-the-shelf", *LINES["off-the-shelf"], SEEDS[:1]
    yield "labelled", *LINES["labelled"], SEEDS


def tiny_correct():
    """(metric, scale, arm) -> (seeds, images) bool, images of varying ease shared by all arms."""
    rng = np.random.default_rng(0)
    ease = rng.normal(size=IMAGES)
    correct = {}
    for metric, lift in METRICS.items():
        for arm, scale, accuracy, seeds in arms_at():
            luck = rng.normal(0, 0.012, (len(seeds), 1))
            noisy = ease + 0.7 * rng.normal(size=(len(seeds), IMAGES))
            cut = np.quantile(ease, 1 - min(0.97, accuracy + lift))
            correct[metric, scale, arm] = noisy + 4 * luck > cut
    return correct


def tiny_results(correct):
    rows = []
    for (metric, scale, arm), right in correct.items():
        for seed, row in enumerate(right):
            for lr, worse in ((1e-3, 0.0), (3e-4, 0.02)):
                common = {"arm": arm, "scale": scale, "seed": seed, "lr": lr, "epoch": 7}
                common |= {"metric": metric, "chosen": lr == 1e-3}
                value = float(row.mean())
                rows.append({**common, "split": "val", "value": value - worse})
                if lr == 1e-3:
                    rows.append({**common, "split": "test", "value": value})
                    rows.append({**common, "split": "holes", "value": value - 0.2})
    return pl.DataFrame(rows)


def digit(text, shade, seed=0):
    """A small PNG of a digit."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (32, 32), (20 + shade, 20, 40))
    spot = tuple(int(x) for x in rng.integers(2, 10, 2))
    ImageDraw.Draw(image).text(spot, text, fill=(230, 230, 255 - shade), font_size=20)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def tiny_look(side, codec, *, padded=0.0, odd=0.0, spread=0, density=0.6):
    return {
        "short_side": {"p5": side - spread, "median": side, "p95": side + spread},
        "not_square": odd,
        "padded": padded,
        "padding": 0.25 if padded else None,
        "codecs": codec if isinstance(codec, dict) else {codec: 1.0},
        "bytes_per_pixel": density,
    }


def tiny_pixels():
    """Retrieved images padded and of all kinds, made ones square PNGs; alike after the path."""
    came = tiny_look(256, {"JPEG": 0.93, "PNG": 0.07}, padded=0.72, odd=0.03, spread=31)
    made = tiny_look(512, "PNG", density=2.1)
    after = tiny_look(256, "JPEG")
    before = {"captions": came, "neighbors": came, "synthetic": made}
    return {name: {"images": 900, "before": b, "after": after} for name, b in before.items()}


def tiny_funnel(found, keep):
    steps = ["found", "decoded", "safe", "scored", "distinct"]
    counts = {}
    for number, label in enumerate(NAMES):
        left = [round((found + 7 * number) * keep**power) for power in range(len(steps))]
        counts[label] = dict(zip(steps, left, strict=True))
    return {"steps": steps, "classes": counts}


@lru_cache(maxsize=1)
def tiny_numbers():
    correct = tiny_correct()
    verdict = verdict_rows(correct, pairs=PAIRS, primary=PRIMARY, references=LINES)
    return verdict, tiny_results(correct)


def lean_results():
    """Enough for one chart."""
    return tiny_numbers()[1].filter(split="test", metric="zero_shot")


def tiny_study(**changes):
    verdict, results = tiny_numbers()
    rows = ("ground truth", "captions", "neighbors", "synthetic", "perturbed 0.3", "perturbed 0.6")
    facts = {
        "title": "The miniature",
        "task": "digits",
        "sentence": verdict_sentence(next(row for row in verdict if row["primary"])),
        "verdict": verdict,
        "results": results,
        "reference_arms": tuple(LINES),
        "largest": {"captions": 930, "synthetic": 610},
        "funnels": {
            "captions": tiny_funnel(180, 0.85),
            "neighbors": tiny_funnel(130, 0.93),
            "synthetic": tiny_funnel(180, 0.8),
            "random": tiny_funnel(120, 0.99),
        },
        "pixels": tiny_pixels(),
        "gallery": {
            row: {
                label: [digit(label, 30 * shade, 10 * shade + n) for n in range(5)]
                for label in NAMES
            }
            for shade, row in enumerate(rows)
        },
        "classes": NAMES,
        "notes": (
            "The labelled reference was trained on 200 images only, all there are.",
            "Perturbed images are those of the retrieved set; they were not filtered again.",
        ),
        "settings": {"name": "miniature", "scales": list(SCALES), "adapt": {"epochs": 8}},
        "versions": {"headwater": "0.1.0", "torch": "2.6.0"},
        "command": "headwater run recipes/miniature.yaml",
    }
    return ReportData(**(facts | changes))
