"""The zero-shot head: class texts as the weights of a linear classifier.

It is where `finetune` starts, and what an untrained model is evaluated with.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from headwater.errors import InputError

Floats = npt.NDArray[np.float32]


def zero_shot_head(text_features: npt.ArrayLike, logit_scale: float) -> Floats:
    """Weights (classes, d) of the linear classifier that class texts make.

    The features of every text are normalized, averaged over templates, normalized again, and
    multiplied by exp(logit_scale). Applied to L2-normalized image features, without a bias, the
    head gives CLIP's logits.

    Args:
        text_features: (classes, templates, d), any length, as `Clip.class_text_features` gives.
        logit_scale: the log of the factor, as open_clip stores it and `Clip.logit_scale` gives.

    Raises:
        InputError: the features are not (classes, templates, d), or not finite.

    Example:
        >>> roses, ferns = [[2.0, 0.0], [8.0, 0.0]], [[0.0, 3.0], [4.0, 0.0]]
        >>> zero_shot_head([roses, ferns], np.log(10)).round(2)
        array([[10.  ,  0.  ],
               [ 7.07,  7.07]], dtype=float32)
    """
    features = np.asarray(text_features, np.float64)
    if features.ndim != 3 or 0 in features.shape or not np.isfinite(features).all():
        raise InputError(
            "text features", expected="finite (classes, templates, d)", seen=str(features.shape)
        )
    head = math.exp(logit_scale) * _unit(_unit(features).mean(axis=1))
    return head.astype(np.float32)


def _unit(vectors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: npt.NDArray[np.float64] = vectors / np.maximum(lengths, 1e-12)  # torch's own guard
    return unit
