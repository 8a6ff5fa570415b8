"""Tiny random-weight text-to-image pipelines, built with the ordinary diffusers classes.

Their 32 px pictures mean nothing, but everything about them is real: tokenizers, text encoders,
network, autoencoder and scheduler, saved as any pipeline folder is. Building takes under a second.
One is a Stable Diffusion, the other a Stable Diffusion 3: a transformer, trained by flow
matching, that reads a caption with two CLIPs and a T5.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

SIDE = 32  # pixels
LOUDER = 3.0  # how much larger the weights of the flow pipeline are than they come
TOKENS = 24  # a prompt has at most this many tokens, start and end included


def build_tiny_pipeline(folder: Path, *, seed: int = 0) -> Path:
    """Write the pipeline to `folder` and return it; the same seed gives the same weights."""
    tokenizer = spelling_tokenizer(folder / "tokenizer")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusionPipeline(
            vae=tiny_autoencoder(),
            text_encoder=tiny_text_encoder(len(tokenizer)),
            tokenizer=tokenizer,
            unet=tiny_unet(),
            scheduler=DDIMScheduler(
                beta_schedule="scaled_linear",
                beta_start=0.00085,
                beta_end=0.012,
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def build_tiny_flow_pipeline(folder: Path, *, seed: int = 0) -> Path:
    """Write a tiny Stable Diffusion 3 to `folder` and return it; the same seed, the same weights.

    It has an img2img form too, as `AutoPipelineForImage2Image` finds it.
    """
    clip = spelling_tokenizer(folder / "tokenizer")
    t5 = spelling_t5_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = StableDiffusion3Pipeline(
            vae=tiny_autoencoder(shift_factor=0.06),
            text_encoder=CLIPTextModelWithProjection(tiny_text_config(len(clip))),
            tokenizer=clip,
            text_encoder_2=CLIPTextModelWithProjection(tiny_text_config(len(clip))),
            tokenizer_2=clip,
            text_encoder_3=tiny_t5(len(t5)),
            tokenizer_3=t5,
            transformer=tiny_transformer(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        )
    with torch.no_grad():  # untrained, its captions hardly show in the pixels
        for part in (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.transformer):
            for weight in part.parameters():
                weight.mul_(LOUDER)
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: on a busy machine many threads spin in wait of each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def spelling_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer without merges: it spells every prompt letter by letter."""
    characters = [chr(code) for code in range(33, 127)]
    words = characters + [f"{c}</w>" for c in characters] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"model_max_length": TOKENS, "tokenizer_class": "CLIPTokenizer"})
    )
    return CLIPTokenizer.from_pretrained(folder)


def spelling_t5_tokenizer() -> T5Tokenizer:
    """A T5 tokenizer without words: a token a letter, and one for the start of a word."""
    characters = [chr(code) for code in range(33, 127)]
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0)]
    return T5Tokenizer(
        vocab=[*special, *((word, -1.0) for word in ["\u2581", *characters])], extra_ids=0
    )


def tiny_text_encoder(words: int) -> CLIPTextModel:
    return CLIPTextModel(tiny_text_config(words))


def tiny_text_config(words: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=words,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=16,
        bos_token_id=words - 2,
        eos_token_id=words - 1,
        pad_token_id=words - 1,
    )


def tiny_t5(words: int) -> T5EncoderModel:
    return T5EncoderModel(
        T5Config(
            vocab_size=words, d_model=32, d_ff=32, d_kv=8, num_heads=2, num_layers=1,
            decoder_start_token_id=0,
        )
    )  # fmt: skip


def tiny_transformer() -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=SIDE // 2,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=32,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        out_channels=4,
        pos_embed_max_size=SIDE // 4,
    )


def tiny_autoencoder(shift_factor: float | None = None) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        latent_channels=4,
        norm_num_groups=4,
        sample_size=SIDE,
        shift_factor=shift_factor,
    )


def tiny_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIDE // 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=8,
        norm_num_groups=4,
    )
