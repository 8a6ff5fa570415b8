"""The autoencoder of a generator alone: images encoded and decoded, with nothing between.

A control for `perturb.py`: what this loses is no loss of diffusion.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DiffusionPipeline
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img import retrieve_latents
from numpy.typing import NDArray

from headwater.errors import ModelError


class Codec:
    """The autoencoder of a pipeline, with the face of an image-to-image form: nothing between.

    Each image takes the draw from the posterior that a perturbation of it takes, so this is the
    curve's end towards gamma 0. Scale and shift of the latents would cancel each other out.

    Raises:
        ModelError: there is none that images go through.
    """

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        vae = getattr(pipeline, "vae", None)
        if not isinstance(vae, AutoencoderKL | AutoencoderTiny):
            raise ModelError(
                f"{type(pipeline).__name__} has no autoencoder of images",
                expected="an AutoencoderKL or AutoencoderTiny", seen=type(vae).__name__,
                do="Leave this control out.",
            )  # fmt: skip
        self.vae = vae
        self.processor = pipeline.image_processor
        # Stable Diffusion XL computes it in float32 where 16 bits overflow.
        self.upcast = hasattr(pipeline, "upcast_vae") and self.vae.config.force_upcast

    def __call__(
        self,
        *,
        prompt: Sequence[str],
        image: NDArray[np.float32],
        generator: Sequence[torch.Generator],
        output_type: str,
    ) -> SimpleNamespace:
        """The images decoded again; a codec hears no prompt."""
        own = self.vae.dtype
        self.vae.to(torch.float32 if self.upcast else own)
        try:
            pixels = self._prepared(image).to(self.vae.device, self.vae.dtype)
            latents = [
                retrieve_latents(self.vae.encode(one[None]), generator=draw)
                for one, draw in zip(pixels, generator, strict=True)
            ]
            decoded = self.vae.decode(torch.cat(latents), return_dict=False)[0]
        finally:
            self.vae.to(own)
        return SimpleNamespace(images=self.processor.postprocess(decoded, output_type=output_type))

    def _prepared(self, image: NDArray[np.float32]) -> torch.Tensor:
        pixels: torch.Tensor = self.processor.preprocess(image)
        if pixels.shape[2:] != image.shape[1:3]:  # it was made to fit, and would come out smaller
            raise ValueError(
                f"height and width are multiples of {self.processor.config.vae_scale_factor}"
            )
        return pixels
