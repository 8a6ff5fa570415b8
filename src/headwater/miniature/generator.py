"""The miniature's generator: a small text-to-image diffusion model, trained on the pool's pairs.

    text      CLIP's text tower, trained on the same pairs to the end, then frozen (learner.py)
    codec     patches of 4 x 4 pixels to their leading principal components, and a decoder back
    network   a small UNet on the 8 x 8 latents; the caption enters it where the time does

It is saved as an ordinary `StableDiffusionPipeline` folder, which diffusers opens from disk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name every torch user knows it by
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from headwater.clip import Clip, Pixels
from headwater.miniature.learner import LOOK_EVERY, contrastive_steps, threads, untrained_learner
from headwater.miniature.scans import SIZE
from headwater.miniature.tokens import CONTEXT
from headwater.progress import track
from headwater.synthesize.generator import library_silence

LATENTS = 8  # channels of a latent, of 48 values a patch
PATCH = 4  # pixels a side; two halvings
FULL = {"text": 900, "codec": 250, "network": 850}  # steps
QUICK = {"text": 200, "codec": 30, "network": 40}
FITTING = 0.6  # share of the pairs, those whose caption fits best, that painting is learned from
BATCH = 64
LR, WARMUP, BETAS = 2e-3, 50, (0.9, 0.99)
CODEC_LR = 8e-3
UNCAPTIONED = 0.1  # share of images shown with the empty caption, for guidance
EMA = 0.995  # the saved weights are a running mean: short trainings are noisy
THREADS = 2  # part of the result: sums depend on it


def train_generator(
    images: Pixels,
    captions: Sequence[str],
    folder: Path | str,
    *,
    quick: bool = False,
    seed: int = 0,
) -> None:
    """Train on pairs and save the pipeline to `folder`; the same arguments give the same bytes.

    Args:
        images: uint8 (n, SIZE, SIZE, 3).
        captions: n texts.
        folder: made if missing.
        quick: far fewer steps; the images are poor.
        seed: of weights, noise and order.
    """
    folder = Path(folder)
    steps = QUICK if quick else FULL
    with threads(THREADS), torch.random.fork_rng():
        torch.manual_seed(seed)
        clip = train_clip(images, captions, folder / "tokenizer", steps["text"], seed=seed)
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
        text = text_tower(clip, tokenizer)
        rows = fitting_pairs(clip, images, captions)
        fitting = [captions[row] for row in rows]
        standardize(text, read(text, tokenizer, fitting))
        pixels = torch.tensor(images[rows]).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        codec = train_codec(pixels, steps["codec"])
        scheduler = noise_schedule()
        network = train_network(
            encode(codec, pixels),
            read(text, tokenizer, fitting),
            read(text, tokenizer, [""]),
            scheduler,
            steps["network"],
        )
    with library_silence():
        StableDiffusionPipeline(
            vae=codec, text_encoder=text, tokenizer=tokenizer, unet=network, scheduler=scheduler,
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        ).save_pretrained(folder)  # fmt: skip


def train_clip(
    images: Pixels, captions: Sequence[str], folder: Path, steps: int, *, seed: int
) -> Clip:
    """A CLIP of its own, trained on the pairs to the end, with its tokenizer in `folder`.

    The learner stops half-way on purpose. Trained on the denoising loss alone, a text tower takes
    far longer to tell the classes apart than the rest takes to paint.
    """
    looks = steps // LOOK_EVERY
    with threads(1):  # towers this small gain nothing from more
        clip = untrained_learner(captions, folder, seed=seed)
        training = contrastive_steps(clip, images, captions, seed=seed)
        for _ in track(islice(training, looks), label="reading captions", total=looks):
            continue
    return clip


def fitting_pairs(clip: Clip, images: Pixels, captions: Sequence[str]) -> NDArray[np.int64]:
    """Rows whose caption fits the image better, by CLIP: generators are trained on such a part.

    What is left out is mostly captions that name nothing, or the wrong class.
    """
    fit = (clip.encode_images(images) * clip.encode_texts(captions, normalize=True)).sum(axis=1)
    return np.sort(np.argsort(-fit, kind="stable")[: round(FITTING * len(fit))])


def standardize(text: CLIPTextModel, hidden: Tensor) -> None:
    """Fold mean and spread of the features into the last norm: what differs is then what counts."""
    mean, spread = hidden.mean((0, 1)), hidden.std((0, 1))
    text.final_layer_norm.weight.div_(spread)
    text.final_layer_norm.bias.sub_(mean).div_(spread)


def text_tower(clip: Clip, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The text tower of an open_clip model as the same network in transformers."""
    weights = clip.model.state_dict()
    vocabulary, width = weights["token_embedding.weight"].shape
    heads, layers = clip.config["text_cfg"]["heads"], clip.config["text_cfg"]["layers"]
    config = CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=4 * width,
        num_hidden_layers=layers, num_attention_heads=heads, max_position_embeddings=CONTEXT,
        hidden_act="gelu", projection_dim=width, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    tower = CLIPTextModel(config)
    tower.load_state_dict(renamed(weights, layers))
    return tower.eval().requires_grad_(False)


def renamed(weights: dict[str, Tensor], layers: int) -> dict[str, Tensor]:
    """open_clip's text weights under transformers' names."""
    named = {
        "embeddings.token_embedding.weight": weights["token_embedding.weight"],
        "embeddings.position_embedding.weight": weights["positional_embedding"],
        "final_layer_norm.weight": weights["ln_final.weight"],
        "final_layer_norm.bias": weights["ln_final.bias"],
    }
    parts = {
        "attn.out_proj": "self_attn.out_proj", "ln_1": "layer_norm1", "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
    }  # fmt: skip
    for layer in range(layers):
        old, new = f"transformer.resblocks.{layer}.", f"encoder.layers.{layer}."
        for kind in ("weight", "bias"):
            thirds = weights[f"{old}attn.in_proj_{kind}"].chunk(3)
            for name, third in zip(("q_proj", "k_proj", "v_proj"), thirds, strict=True):
                named[f"{new}self_attn.{name}.{kind}"] = third
            for theirs, ours in parts.items():
                named[f"{new}{ours}.{kind}"] = weights[f"{old}{theirs}.{kind}"]
    return named


@torch.no_grad()
def read(text: CLIPTextModel, tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """The text tower's features of captions, as the pipeline makes them: (n, CONTEXT, width)."""
    tokens = tokenizer(
        list(captions), padding="max_length", max_length=CONTEXT, truncation=True,
        return_tensors="pt",
    )  # fmt: skip
    parts = [text(ids).last_hidden_state for ids in torch.split(tokens.input_ids, 256)]
    return torch.cat(parts)


def train_codec(pixels: Tensor, steps: int) -> AutoencoderTiny:
    """An autoencoder from pixels (n, 3, SIZE, SIZE) in -1..1 to latents of standard deviation 1.

    The encoder is set, not trained: two convolutions with stride 2 gather a patch, the last one
    projects it on its principal components. Only the decoder learns, so this takes seconds.
    """
    codec = AutoencoderTiny(
        encoder_block_out_channels=(PATCH * PATCH * 3,) * 3, num_encoder_blocks=(0, 0, 0),
        decoder_block_out_channels=(32,) * 3, num_decoder_blocks=(1, 0, 0),
        latent_channels=LATENTS,
    )  # fmt: skip
    with torch.no_grad():
        gather_patches(codec.encoder.layers)
        project_patches(codec.encoder.layers, pixels)
    latents = encode(codec, pixels)
    codec.register_to_config(scaling_factor=1 / float(latents.std()))
    optimizer = torch.optim.AdamW(
        codec.decoder.parameters(), lr=CODEC_LR, betas=BETAS, weight_decay=0, fused=True
    )
    rates = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, CODEC_LR, total_steps=steps, pct_start=0.1
    )
    for _ in track(range(steps), label="training the codec"):
        rows = torch.randint(len(pixels), (BATCH,))
        blurred = latents[rows] + 0.02 * torch.randn_like(latents[rows])
        loss = F.mse_loss(codec.decoder(blurred), pixels[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rates.step()
    return codec.eval().requires_grad_(False)


def gather_patches(layers: Any) -> None:
    """Set the encoder's first three layers so that they only move pixels: patch -> 48 channels."""
    for layer in layers:
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()
    for color in range(3):
        layers[0].weight[color, color, 1, 1] = 1
    for layer, channels in ((layers[1], 3), (layers[2], 12)):
        for row in (0, 1):
            for column in (0, 1):
                for channel in range(channels):
                    out = (row * 2 + column) * channels + channel
                    layer.weight[out, channel, 1 + row, 1 + column] = 1


def project_patches(layers: Any, pixels: Tensor) -> None:
    """Set the encoder's last layer to the patches' principal components, half whitened.

    Whitening evens the components' spread, so that noise drowns them together; done fully it
    would make fine noise as loud as strokes.
    """
    patches = layers[:3](pixels.add(1).div(2)).permute(0, 2, 3, 1).flatten(0, 2)
    mean = patches.mean(0)
    spread, components = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    spread, components = spread.flip(0)[:LATENTS], components.flip(1)[:, :LATENTS]
    projection = (components * spread**-0.25).T * 0.5 / spread.sqrt().mean().sqrt()
    layers[3].weight[:, :, 1, 1] = projection
    layers[3].bias.copy_(-projection @ mean)


@torch.no_grad()
def encode(codec: AutoencoderTiny, pixels: Tensor) -> Tensor:
    """Latents (n, LATENTS, SIZE / PATCH, SIZE / PATCH) of pixels, as the encoder gives them."""
    return torch.cat([codec.encoder(part) for part in torch.split(pixels, 256)])


def noise_schedule() -> DDIMScheduler:
    """A cosine schedule that ends in pure noise, so that sampling may start from it.

    With it the network must predict v; and images keep their brightness (Lin et al., 2024).
    """
    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction",
        rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False,
        set_alpha_to_one=True, steps_offset=1,
    )  # fmt: skip


def untrained_network(width: int) -> UNet2DConditionModel:
    """Three floors, wide where there is little to see at once: a digit's class is its whole shape.

    The caption is pooled and added to the time's embedding. Cross-attention, the usual way in,
    learned nothing of the classes in the minutes there are.
    """
    return UNet2DConditionModel(
        sample_size=SIZE // PATCH, in_channels=LATENTS, out_channels=LATENTS,
        block_out_channels=(32, 96, 128), layers_per_block=1, norm_num_groups=16,
        down_block_types=("DownBlock2D",) * 3, mid_block_type="UNetMidBlock2D",
        up_block_types=("UpBlock2D",) * 3, attention_head_dim=32, cross_attention_dim=width,
        addition_embed_type="text", addition_embed_type_num_heads=4,
        resnet_time_scale_shift="scale_shift",
    )  # fmt: skip


def train_network(
    latents: Tensor, hidden: Tensor, blank: Tensor, scheduler: DDIMScheduler, steps: int
) -> UNet2DConditionModel:
    """Denoise latents under their captions; every noise level counts the same.

    Weights by signal-to-noise ratio would leave out the noisiest levels, where it is decided what
    is painted: with them the captions were ignored.
    """
    network = untrained_network(hidden.shape[-1]).to(memory_format=torch.channels_last)
    scale = 1 / float(latents.std())
    parameters = list(network.parameters())
    mean = [weight.detach().clone() for weight in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=LR, betas=BETAS, weight_decay=0.01, fused=True)
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    for step, rows in enumerate(track(batches(len(latents), steps), label="training to paint")):
        kept = torch.rand(len(rows), 1, 1) >= UNCAPTIONED
        loss = denoising_loss(
            network, scale * latents[rows], torch.where(kept, hidden[rows], blank), scheduler
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        rates.step()
        share = 1 - min(EMA, (1 + step) / (10 + step))
        torch._foreach_lerp_(mean, [weight.detach() for weight in parameters], share)
    with torch.no_grad():
        for weight, averaged in zip(parameters, mean, strict=True):
            weight.copy_(averaged)
    return network.eval().requires_grad_(False)


def denoising_loss(
    network: UNet2DConditionModel, clean: Tensor, hidden: Tensor, scheduler: DDIMScheduler
) -> Tensor:
    """Mean squared error of v = alpha noise - sigma clean, at noise levels spread over a batch."""
    count = len(clean)
    levels = scheduler.config.num_train_timesteps
    times = ((torch.arange(count) + torch.rand(count)) / count * levels).long()
    signal = scheduler.alphas_cumprod[times].view(-1, 1, 1, 1)
    alpha, sigma = signal.sqrt(), (1 - signal).sqrt()
    noise = torch.randn_like(clean)
    painted = network(alpha * clean + sigma * noise, times, hidden).sample
    return F.mse_loss(painted, alpha * noise - sigma * clean)


def rate(step: int, steps: int) -> float:
    """Share of the learning rate at a step: linear warmup, cosine to 0.

    Example:
        >>> rate(0, 100), rate(100, 100)
        (0.02, 0.0)
    """
    warm = min(1.0, (step + 1) / min(WARMUP, steps / 2))
    return warm * (1 + math.cos(math.pi * step / steps)) / 2


def batches(n: int, steps: int) -> Iterator[Tensor]:
    """`steps` batches of rows of n, every row once before any comes twice."""

    def endless() -> Iterator[Tensor]:
        while True:
            yield from torch.split(torch.randperm(n), BATCH)

    return islice(endless(), steps)
