"""Says in a line what an image shows: BLIP, BLIP-2 or any image-to-text model of transformers.

Its files are opened in `checkpoint.py`; how it chooses its words is in `decoding.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

from headwater.decode import Image8
from headwater.errors import ModelError, first_line
from headwater.float32 import full_float32
from headwater.store import digest_value
from headwater.synthesize.captions.batches import lines_in_blocks
from headwater.synthesize.captions.checkpoint import (
    find_model,
    model_digest,
    open_model,
    opening,
    shown_name,
    silence,
    text_ends,
)
from headwater.synthesize.captions.decoding import Chooser, LineEnd
from headwater.synthesize.captions.instructions import clean_line

QUESTION = "Describe this image in one line of at most 20 words. Answer with that line alone."
"""What a model that is spoken to is asked; BLIP and its like just begin."""


class Captioner:
    """Describes images, each by its most probable words.

    Nothing is drawn at random, so the same image has the same line. Nor does it depend on the
    images beside it: all is computed in float32 proper, and where two words were about as probable,
    the image is described again alone.

    Example:
        >>> Captioner("./no-such-folder")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        headwater.errors.ModelError: no model there: expected a folder, saw no-such-folder. ...
    """

    def __init__(
        self,
        name_or_folder: str | Path,
        *,
        tokens: int = 100,
        block: int = 16,
        device: str | None = None,
    ) -> None:
        """Open a model.

        Args:
            name_or_folder: a folder as `save_pretrained` writes it, or a name on the Hub.
            tokens: a line has at most so many.
            block: images described at once; halved where memory ends.
            device: as torch names it; None is the GPU where there is one, else the CPU.

        Raises:
            ModelError: no such model, one that is half there, holds pickles, needs code, or
                describes no images.
        """
        self.folder = find_model(name_or_folder)
        self.name = shown_name(name_or_folder)
        self.tokens = tokens
        self.block = block
        with opening(self.folder):
            self.processor: Any = self._open(AutoProcessor)
            # What AutoProcessor gives may be one of these two itself.
            self._image_processor: Any = getattr(
                self.processor, "image_processor", None
            ) or self._open(AutoImageProcessor)
            self._tokenizer: Any = getattr(self.processor, "tokenizer", None) or self._open(
                AutoTokenizer
            )
        self.model = open_model(AutoModelForImageTextToText, self.folder, device=device)

    @cached_property
    def digest(self) -> str:
        """Identifies weights, processor and question."""
        return digest_value([model_digest(self.folder), QUESTION, self.tokens])

    def describe(self, images: Sequence[Image8]) -> list[str]:
        """One line for each image.

        Args:
            images: each (height, width, 3), uint8; of any sizes.

        Raises:
            ModelError: the model cannot look at such images.
            RunError: it computes NaN, or memory does not suffice for one image.
        """
        return lines_in_blocks(images, self._look, block=self.block, name=self.name)

    def _look(self, images: Sequence[Image8]) -> tuple[list[str], list[bool]]:
        """The lines of some images, and whether each is certain."""
        chooser = Chooser(len(images))
        with torch.inference_mode(), full_float32(), silence():
            grown = self.model.generate(
                **self._prepare([Image.fromarray(image) for image in images]),
                max_new_tokens=self.tokens, do_sample=False, num_beams=1,
                logits_processor=[chooser], stopping_criteria=[LineEnd(self._tokenizer)],
            )  # fmt: skip
        rows = chooser.chosen(grown, ends=self._ends)
        texts = self._tokenizer.batch_decode(rows, skip_special_tokens=True)
        lines = [clean_line(text) for text in texts]
        return lines, [chooser.is_sure(at, len(row) + 1) for at, row in enumerate(rows)]

    def _prepare(self, images: list[Image.Image]) -> Any:
        try:
            if getattr(self.processor, "chat_template", None):
                inputs = self._ask(images)
            else:
                inputs = self._image_processor(images=images, return_tensors="pt")
        except Exception as error:  # a processor is a program for images it was made for
            raise ModelError(
                f"{self.name} cannot look at these images", seen=first_line(error),
                do="Take another model.",
            ) from error  # fmt: skip
        return inputs.to(self.model.device)

    def _ask(self, images: list[Image.Image]) -> Any:
        content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
        asked = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        return self.processor(
            text=[asked] * len(images), images=[[image] for image in images], padding=True,
            padding_side="left", return_tensors="pt",
        )  # fmt: skip

    @cached_property
    def _ends(self) -> list[int]:
        return text_ends(self.model, self._tokenizer)

    def _open(self, auto: Any) -> Any:
        return auto.from_pretrained(self.folder, trust_remote_code=False, local_files_only=True)
