"""Tiny random-weight image captioners: BLIP, BLIP-2, a plain encoder-decoder, one that chats.

What they say means nothing, but everything about them is real; each is built from the ordinary
transformers classes and saved as any model folder is, in a fraction of a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tests.tiny_language_model import example_tokenizer, tiny_gpt2
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
    CLIPImageProcessor,
    CLIPVisionConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    VisionEncoderDecoderModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

SIDE = 32  # pixels
SIZE = {"height": SIDE, "width": SIDE}
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "initializer_range": 0.3,
}
EYES: dict[str, Any] = {**SMALL, "image_size": SIDE, "patch_size": 8}
ENDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
IMAGE = "<image>"
CHAT = (
    "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}\n"
    "{% endfor %}assistant:"
)


def build_tiny_captioner(folder: Path, *, family: str = "blip", seed: int = 0) -> Path:
    """Write a captioner to `folder` and return it; the same seed gives the same weights.

    Args:
        folder: a new one.
        family: one of `FAMILIES`.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, parts = FAMILIES[family]()
    model.save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    return folder


def blip() -> tuple[Any, list[Any]]:
    tokenizer = example_tokenizer()
    words = {**SMALL, **ENDS, "encoder_hidden_size": 16, "max_position_embeddings": 128,
             "sep_token_id": 0, "vocab_size": len(tokenizer)}  # fmt: skip
    config = BlipConfig(text_config=words, vision_config=EYES, projection_dim=16)
    processor = BlipProcessor(image_processor=BlipImageProcessor(size=SIZE), tokenizer=tokenizer)
    return BlipForConditionalGeneration(config), [processor]


def blip2() -> tuple[Any, list[Any]]:
    tokenizer = example_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    qformer = {**SMALL, "encoder_hidden_size": 16, "cross_attention_frequency": 1}
    words = {**ENDS, "model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": 16,
             "word_embed_proj_dim": 16, "ffn_dim": 32, "num_hidden_layers": 2,
             "num_attention_heads": 2, "max_position_embeddings": 128, "init_std": 0.3}  # fmt: skip
    config = Blip2Config(
        vision_config=EYES, qformer_config=qformer, text_config=words, num_query_tokens=4,
        image_token_index=len(tokenizer) - 1, initializer_range=0.3,
    )  # fmt: skip
    model = Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens)
    processor = Blip2Processor(
        image_processor=BlipImageProcessor(size=SIZE), tokenizer=tokenizer, num_query_tokens=4
    )
    return model, [processor]


def encoder_decoder() -> tuple[Any, list[Any]]:
    tokenizer = example_tokenizer()
    config = GPT2Config(**{**tiny_gpt2(len(tokenizer)).config.to_dict(), "n_embd": 16,
                           "add_cross_attention": True, "is_decoder": True})  # fmt: skip
    model = VisionEncoderDecoderModel(
        encoder=ViTModel(ViTConfig(**EYES)), decoder=GPT2LMHeadModel(config)
    )
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = 0
    model.config.pad_token_id = model.generation_config.pad_token_id = 0
    return model, [ViTImageProcessor(size=SIZE), tokenizer]


def one_that_chats() -> tuple[Any, list[Any]]:
    tokenizer = example_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    words = LlamaConfig(**SMALL, **ENDS, vocab_size=len(tokenizer), max_position_embeddings=512)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**EYES, projection_dim=16), text_config=words,
        image_token_index=len(tokenizer) - 1,
    )  # fmt: skip
    eyes = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIZE)
    processor = LlavaProcessor(
        image_processor=eyes, tokenizer=tokenizer, patch_size=8, chat_template=CHAT,
        vision_feature_select_strategy="default", num_additional_image_tokens=1,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), [processor]


FAMILIES = {
    "blip": blip,
    "blip2": blip2,
    "encoder-decoder": encoder_decoder,
    "chat": one_that_chats,
}
