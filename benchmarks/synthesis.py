"""What `synthesize` adds to the bare pipeline call, both in one run.

    python benchmarks/synthesis.py                  # CPU: a small pipeline, 0.5 s an image and more
    python benchmarks/synthesis.py --images 2000    # where CUDA is: one of Stable Diffusion's size

Random weights, built on the spot. The bare call draws the same captions in the same blocks, with
one generator an image, and throws the pictures away; `synthesize` writes captions, resizes,
encodes, hashes, and writes a set with decisions and card. Both have the pipeline open already and
take turns, bare first and last; each `synthesize` is compared with the mean of its neighbors. The
ratio is time of the tool by time of the bare call; aim: at most 1.05.

Measured: see LOG.md, "Synthesis, measured".
"""

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from headwater.cost import read_costs, sum_costs, tell_cost
from headwater.steps.synthesis.painter import open_painter
from headwater.steps.synthesis.settings import Synthesis
from headwater.steps.synthesis.synthesize import synthesize
from headwater.synthesize.captions.given import CAPTIONS
from headwater.synthesize.generator import library_silence
from headwater.synthesize.images import noise
from headwater.task import load_task

TOKENS = 77
TASK = """
format: 1
name: benchmark
classes: [rose, iris, lotus, dandelion]
"""

SMALL = {
    "text": {"hidden_size": 128, "layers": 4},
    "vae": (32, 32, 64, 64),
    "unet": (32, 64, 64, 64),
    "heads": 16,
}
LARGE = {  # Stable Diffusion 1.5's own
    "text": {"hidden_size": 768, "layers": 12},
    "vae": (128, 256, 512, 512),
    "unet": (320, 640, 1280, 1280),
    "heads": 8,
}


def tokenizer(folder):
    """A CLIP tokenizer without merges: it spells."""
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    told = {"model_max_length": TOKENS, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    return CLIPTokenizer.from_pretrained(folder)


def build(folder, size):
    """A random pipeline in the shape of Stable Diffusion."""
    torch.manual_seed(0)
    spells = tokenizer(folder / "tokenizer")
    width = size["text"]["hidden_size"]
    levels = len(size["unet"])
    text = CLIPTextConfig(
        vocab_size=len(spells), hidden_size=width, intermediate_size=4 * width,
        num_hidden_layers=size["text"]["layers"], num_attention_heads=width // 64,
        max_position_embeddings=TOKENS, projection_dim=width, bos_token_id=len(spells) - 2,
        eos_token_id=len(spells) - 1, pad_token_id=len(spells) - 1,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=size["vae"], layers_per_block=2, latent_channels=4, sample_size=512,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=size["unet"], layers_per_block=2,
        cross_attention_dim=width, attention_head_dim=size["heads"],
        down_block_types=("CrossAttnDownBlock2D",) * (levels - 1) + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (levels - 1),
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=spells, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    with library_silence():
        pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def bare(pipeline, captions, how):
    """Seconds of the pipeline call alone, block by block."""
    began = time.perf_counter()
    for start in range(0, len(captions), how.block):
        prompts = captions[start : start + how.block]
        pipeline(
            prompts, generator=[noise("image", 0, start + n) for n in range(len(prompts))],
            num_inference_steps=how.steps, guidance_scale=how.guidance, height=how.size,
            width=how.size,
        )  # fmt: skip
    return time.perf_counter() - began


@contextmanager
def watching_gpu():
    """Utilization in percent and power in watts, twice a second, while the block runs."""
    query = ["nvidia-smi", "--query-gpu=utilization.gpu,power.draw", "--loop-ms=500"]
    smi = subprocess.Popen(
        [*query, "--format=csv,noheader,nounits"], stdout=subprocess.PIPE, text=True
    )
    seen = []
    yield seen
    smi.terminate()
    seen.extend([float(v) for v in line.split(",")] for line in smi.communicate()[0].splitlines())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, help="a round; 24, on a GPU 512")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block", type=int, help="images at once; 8, on a GPU 32")
    parser.add_argument("--steps", type=int, help="denoising steps; 5, on a GPU 50")
    parser.add_argument("--precision", help="float32, on a GPU float16")
    asked = parser.parse_args()
    cuda = torch.cuda.is_available()
    how = Synthesis(
        n=asked.images or (512 if cuda else 24), steps=asked.steps or (50 if cuda else 5),
        block=asked.block or (32 if cuda else 8), size=512 if cuda else 256, save_size=256,
        precision=asked.precision or ("float16" if cuda else "float32"),
    )  # fmt: skip
    device = torch.cuda.get_device_name() if cuda else f"cpu, {torch.get_num_threads()} threads"
    print(f"{device}, {how.precision}, {how.n} images, blocks of {how.block}, {how.steps} steps")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "task.yaml").write_text(TASK)
        task = load_task(folder / "task.yaml")
        generator = build(folder / "generator", LARGE if cuda else SMALL)
        told = {"generator": generator, "workers": 1}
        few = how.model_copy(update={"n": how.block})
        synthesize(task, folder / "warm", how=few, **told)
        pipeline = open_painter(generator, scheduler=how.scheduler, precision=how.precision)
        captions = (pl.read_parquet(folder / "warm" / CAPTIONS)["caption"].to_list() * how.n)[
            : how.n
        ]
        ratios, before = [], bare(pipeline, captions, how)
        for number in range(asked.rounds):
            began = time.perf_counter()
            synthesize(task, folder / f"set-{number}", how=how, **told)
            ours = time.perf_counter() - began
            after = bare(pipeline, captions, how)
            ratios.append(2 * ours / (before + after))
            rates = [how.n / seconds for seconds in (before, after, ours)]
            print("bare {:.3f} and {:.3f} images/s, synthesize {:.3f}".format(*rates), end="")
            print(f": {ratios[-1]:.3f} of the time")
            before = after
        print(f"median {statistics.median(ratios):.3f}, {before / how.n:.2f} s an image")
        if cuda:
            with watching_gpu() as seen:
                synthesize(task, folder / "watched", how=how, **told)
            usage, watts = (statistics.mean(column) for column in zip(*seen, strict=True))
            print(f"{tell_cost(sum_costs(read_costs(folder / 'watched')))}")
            print(f"utilization {usage:.0f} %, {watts:.0f} W on average")


if __name__ == "__main__":
    main()
