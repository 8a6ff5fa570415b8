"""clip.py: what is loaded, encoded and saved, held against open_clip itself."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from tests.tiny_clip import CONFIG, TEXT, VISION, save_tiny_clip, tinted_images, tiny_clip

from headwater.clip import (
    CONFIG_NAME,
    HEAD_NAME,
    WEIGHTS_NAME,
    load_clip,
    load_head,
    resize_images,
    untrained_clip,
)
from headwater.clip.texts import is_causal
from headwater.errors import InputError, ModelError

RESNET = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16, "head_width": 32}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def photos() -> list[Image.Image]:
    generator = np.random.default_rng(0)
    shapes = [(40, 60), (32, 32), (100, 33), (20, 20)]
    return [Image.fromarray(generator.integers(0, 256, (*s, 3), np.uint8)) for s in shapes]


def test_features_are_those_of_open_clip(folder):
    theirs, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    theirs.eval()
    texts = ["a rose", "two dandelions", ""]
    with torch.no_grad():
        image = theirs.encode_image(torch.stack([preprocess(p) for p in photos()]), normalize=True)
        text = theirs.encode_text(tokenizer(texts))
    clip = load_clip(folder)
    np.testing.assert_allclose(clip.encode_images(photos()), image, atol=1e-5)
    np.testing.assert_allclose(clip.encode_texts(texts), text, atol=1e-5)


def test_what_was_saved_is_what_was_there(folder, tmp_path):
    clip = load_clip(folder)
    digest = clip.save(tmp_path / "again")
    again = load_clip(f"local-dir:{tmp_path / 'again'}")
    assert digest == clip.digest == again.digest
    assert (tmp_path / "again" / CONFIG_NAME).read_bytes() == (folder / CONFIG_NAME).read_bytes()
    images = [np.asarray(p) for p in photos()]
    np.testing.assert_array_equal(clip.encode_images(images), again.encode_images(images))


def test_a_name_with_its_config_and_weights_is_the_same_model(folder, tmp_path):
    (tmp_path / "toy.json").write_text(json.dumps(CONFIG))
    named = load_clip(
        "toy", pretrained=folder / WEIGHTS_NAME, config=tmp_path / "toy.json", activation="gelu"
    )
    assert named.digest == load_clip(folder).digest
    np.testing.assert_array_equal(named.encode_texts(["x"]), load_clip(folder).encode_texts(["x"]))
    assert "toy" not in open_clip.list_models()


def test_a_weights_only_checkpoint_loads(folder, tmp_path):
    (tmp_path / "toy.json").write_text(json.dumps(CONFIG))
    torch.save({"state_dict": load_clip(folder).model.state_dict()}, tmp_path / "toy.pt")
    (tmp_path / "toy.json").write_text(json.dumps(CONFIG | {"quick_gelu": False}))
    named = load_clip("toy", pretrained=tmp_path / "toy.pt", config=tmp_path / "toy.json")
    np.testing.assert_array_equal(named.encode_texts(["x"]), load_clip(folder).encode_texts(["x"]))


def bare(folder: Path, tmp_path: Path, **config: object) -> dict[str, object]:
    """How one asks for the toy's weights with a config that says what `config` says."""
    (tmp_path / "toy.json").write_text(json.dumps(CONFIG | config))
    return {"pretrained": folder / WEIGHTS_NAME, "config": tmp_path / "toy.json"}


def test_the_activation_of_bare_weights_is_never_guessed(folder, tmp_path):
    asked = bare(folder, tmp_path)
    with pytest.raises(ModelError, match="--activation") as caught:
        load_clip("toy", **asked)
    assert "\n" not in str(caught.value)
    gelu, quick = (load_clip("toy", **asked, activation=a) for a in ("gelu", "quickgelu"))
    np.testing.assert_array_equal(
        gelu.encode_texts(["a rose"]), load_clip(folder).encode_texts(["a rose"])
    )
    assert np.abs(quick.encode_texts(["a rose"]) - gelu.encode_texts(["a rose"])).max() > 1e-4
    assert quick.config["quick_gelu"]


def test_a_config_or_a_name_states_the_activation(folder, tmp_path):
    for quick in (True, False):
        clip = load_clip("toy", **bare(folder, tmp_path, quick_gelu=quick))
        assert clip.config["quick_gelu"] is quick
    assert load_clip("toy-quickgelu", **bare(folder, tmp_path)).config["quick_gelu"]


@pytest.mark.parametrize(
    ("name", "config", "activation", "says"),
    [
        ("toy-quickgelu", {"quick_gelu": False}, None, "its config: gelu, its name: quickgelu"),
        ("toy", {"quick_gelu": True}, "gelu", "its config: quickgelu, you: gelu"),
        ("toy", {}, "relu", "gelu or quickgelu"),
    ],
)
def test_two_activations_are_one_too_many(folder, tmp_path, name, config, activation, says):
    with pytest.raises(ModelError, match=says):
        load_clip(name, **bare(folder, tmp_path, **config), activation=activation)


def test_a_folder_states_the_activation_by_its_format(folder):
    assert load_clip(folder, activation="gelu").digest == load_clip(folder).digest
    with pytest.raises(ModelError, match="two activations"):
        load_clip(folder, activation="quickgelu")


def test_texts_are_run_no_further_than_the_longest_of_them():
    texts = ["", "rose", "a photo of a rose in the garden", "a " * 40]
    for config in (CONFIG, CONFIG | {"text_cfg": TEXT | {"pool_type": "eos", "eos_id": 49407}}):
        clip = untrained_clip(config)
        assert is_causal(clip.model)
        tokens = clip.tokens(texts)
        with torch.no_grad():
            for n in range(1, 5):
                whole = clip.model.encode_text(tokens[:n])
                np.testing.assert_allclose(clip.encode_tokens(tokens[:n]), whole, atol=1e-6)
        assert clip.encode_tokens(tokens[:0]).shape == (0, clip.dim)


@pytest.mark.parametrize(
    "other",
    [{"text_cfg": TEXT | {"no_causal_mask": True}}, {"text_cfg": TEXT | {"pool_type": "last"}},
     {"custom_text": True}],
)  # fmt: skip
def test_a_tower_that_may_look_behind_the_end_of_text_runs_on_all_of_it(other):
    clip = untrained_clip(CONFIG | other)
    assert not is_causal(clip.model)
    tokens = clip.tokens(["rose", "a photo of a rose"])
    with torch.no_grad():
        np.testing.assert_array_equal(clip.encode_tokens(tokens), clip.model.encode_text(tokens))


def test_batches_change_nothing_but_float_noise():
    clip, (images, _) = tiny_clip(), tinted_images(23)
    whole = clip.encode_images(images)
    np.testing.assert_allclose(clip.encode_images(images, batch_size=4), whole, atol=1e-6)
    np.testing.assert_array_equal(clip.encode_images(images), whole)
    np.testing.assert_array_equal(clip.encode_images(list(images)), whole)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-5)
    texts = [f"number {i}" for i in range(7)]
    small = clip.encode_texts(texts, batch_size=2)
    np.testing.assert_allclose(small, clip.encode_texts(texts), atol=1e-5)
    assert clip.encode_images([]).shape == clip.encode_texts([]).shape == (0, clip.dim)


@pytest.mark.parametrize("vision", [VISION, RESNET], ids=["vit", "resnet"])
def test_an_image_gets_the_same_bits_whatever_is_encoded_with_it(vision):
    clip = untrained_clip(CONFIG | {"vision_cfg": vision})
    images, _ = tinted_images(40)
    whole = clip.encode_images(images)
    for rows in ([0], [7, 3], range(13), range(5, 40), [39, 39, 2]):
        np.testing.assert_array_equal(clip.encode_images(images[list(rows)]), whole[list(rows)])


def test_what_decides_the_features_is_in_their_digest(tmp_path):
    tiny_clip().save(tmp_path / "a")
    clip = load_clip(tmp_path / "a")
    assert clip.features_digest == load_clip(tmp_path / "a").features_digest
    assert clip.copy().features_digest is tiny_clip().features_digest is None
    squashing = replace(clip, preprocess=replace(clip.preprocess, resize_mode="squash"))
    others = [squashing, replace(clip, digest="0"), replace(clip, config={**clip.config, "a": 1})]
    assert len({clip.features_digest, *(other.features_digest for other in others)}) == 4


def test_normalize_is_a_choice_for_texts():
    clip = tiny_clip()
    raw, unit = clip.encode_texts(["a rose"]), clip.encode_texts(["a rose"], normalize=True)
    np.testing.assert_allclose(raw / np.linalg.norm(raw), unit, atol=1e-6)
    assert not np.isclose(np.linalg.norm(raw), 1, atol=1e-2)


def test_class_text_features_are_classes_by_templates():
    clip = tiny_clip()
    features = clip.class_text_features(["apple", "rose"], ["{a} {}", "{}", "the {c}"])
    texts = ["an apple", "apple", "the apple", "a rose", "rose", "the rose"]
    np.testing.assert_array_equal(features.reshape(6, -1), clip.encode_texts(texts))
    assert features.shape == (2, 3, clip.dim)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_resize_is_open_clips_own(mode):
    config = open_clip.transform.PreprocessCfg(size=24, resize_mode=mode)
    whole = open_clip.transform.image_transform_v2(config, is_train=False)
    ours = resize_images(photos(), 24, resize_mode=mode)
    mean, std = np.array(config.mean), np.array(config.std)
    theirs = np.stack([whole(p).permute(1, 2, 0).numpy() * std + mean for p in photos()]) * 255
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_images_of_the_right_size_are_not_touched():
    images = tinted_images(3)[0]
    assert resize_images(images, 32) is images
    np.testing.assert_array_equal(resize_images(list(images), 32), images)


@pytest.mark.parametrize(
    "images", [[np.zeros((9, 9), np.uint8)], [np.zeros((9, 9, 3))], np.zeros((1, 8, 8, 3)), ["x"]]
)
def test_what_is_no_rgb_image_is_refused(images):
    with pytest.raises(InputError, match="expected uint8"):
        resize_images(images, 8)


def test_the_copy_has_weights_of_its_own():
    clip = tiny_clip()
    before = clip.encode_texts(["x"])
    copy = clip.copy()
    with torch.no_grad():
        copy.model.text_projection.zero_()
    np.testing.assert_array_equal(clip.encode_texts(["x"]), before)
    assert not copy.encode_texts(["x"]).any()


def test_the_head_comes_back_with_its_labels(tmp_path):
    head = np.arange(6, dtype=np.float32).reshape(2, 3)
    tiny_clip().save(tmp_path, head=head, labels=["rose", "fern"])
    weights, labels = load_head(tmp_path)
    np.testing.assert_array_equal(weights, head)
    assert labels == ("rose", "fern")
    load_clip(tmp_path)
    open_clip.create_model(f"local-dir:{tmp_path}")


def test_a_model_without_a_head_says_so(folder):
    with pytest.raises(ModelError, match="no head"):
        load_head(folder)


def test_a_broken_head_says_so(tmp_path):
    (tmp_path / HEAD_NAME).write_bytes(b"half")
    with pytest.raises(ModelError, match="cannot read"):
        load_head(tmp_path)


def test_seeds_decide_random_weights_and_leave_torch_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    same, again, other = tiny_clip(1), tiny_clip(1), tiny_clip(2)
    assert torch.rand(1) == expected
    features = [c.encode_texts(["x"]) for c in (same, again, other)]
    np.testing.assert_array_equal(features[0], features[1])
    assert np.abs(features[0] - features[2]).max() > 0.01


def test_a_tokenizer_of_its_own_travels_along(tmp_path):
    from headwater.miniature.tokens import build_tokenizer

    size = build_tokenizer(["a photo of a seven", "handwritten 7"], tmp_path / "tokens")
    text = TEXT | {"vocab_size": size, "hf_tokenizer_name": "toy"}
    clip = untrained_clip(CONFIG | {"text_cfg": text}, tokenizer=tmp_path / "tokens")
    clip.save(tmp_path / "model")
    again = load_clip(tmp_path / "model")
    again.save(tmp_path / "once more")
    for name in ("model", "once more"):
        theirs = open_clip.get_tokenizer(f"local-dir:{tmp_path / name}")
        assert torch.equal(theirs(["a seven"]), clip.tokens(["a seven"]))
    np.testing.assert_array_equal(again.encode_texts(["seven"]), clip.encode_texts(["seven"]))


def test_endless_texts_are_cut_before_they_cost_anything():
    clip = tiny_clip()
    np.testing.assert_array_equal(clip.encode_texts(["a " * 10**6]), clip.encode_texts(["a " * 50]))
    assert clip.tokens(["a" * 10**6]).shape == (1, 16)


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def test_pickled_weights_are_refused_without_being_run(tmp_path):
    (tmp_path / "toy.json").write_text(json.dumps(CONFIG))
    (tmp_path / "toy.bin").write_bytes(pickle.dumps({"x": Trap()}, protocol=2))
    torch.save({"x": Trap()}, tmp_path / "toy.pt")
    for name in ("toy.pt", "toy.bin"):
        with pytest.raises(ModelError, match=r"unpickling|safetensors"):
            load_clip(
                "toy", pretrained=tmp_path / name, config=tmp_path / "toy.json", activation="gelu"
            )


def broken(folder: Path, name: str, content: bytes | None) -> Path:
    save_tiny_clip(folder)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        (CONFIG_NAME, None, f"no {CONFIG_NAME}"),
        (WEIGHTS_NAME, None, f"no {WEIGHTS_NAME}"),
        (CONFIG_NAME, b"{", "expected JSON"),
        (CONFIG_NAME, b"[]", "expected a JSON object"),
        (CONFIG_NAME, b'{"embed_dim": 16}', "under model_cfg"),
        (CONFIG_NAME, b'{"model_cfg": {"embed_dim": 16}}', "describes no model"),
        (
            CONFIG_NAME,
            b'{"model_cfg": {"embed_dim": 16, "vision_cfg": {}, "text_cfg": 3}}',
            "no model",
        ),
        (WEIGHTS_NAME, b"", "half-written"),
        (WEIGHTS_NAME, b"\x10\x00\x00\x00\x00\x00\x00\x00{", "half-written"),
    ],
)
def test_a_broken_folder_gets_one_line(tmp_path, name, content, says):
    with pytest.raises(ModelError, match=says) as caught:
        load_clip(broken(tmp_path / "m", name, content))
    assert "\n" not in str(caught.value)


def test_a_truncated_or_foreign_weights_file_gets_one_line(tmp_path):
    path = save_tiny_clip(tmp_path / "m") / WEIGHTS_NAME
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ModelError, match="half-written"):
        load_clip(tmp_path / "m")
    wider = CONFIG | {"embed_dim": 8}
    untrained_clip(wider).save(tmp_path / "other")
    path.write_bytes((tmp_path / "other" / WEIGHTS_NAME).read_bytes())
    with pytest.raises(ModelError, match="does not fit"):
        load_clip(tmp_path / "m")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "nowhere"}, "no such model"),
        ({"model": "ViT-B-23", "pretrained": "openai"}, "ViT-B-32"),
        ({"model": "ViT-B-32", "pretrained": "openia"}, "openai"),
        ({"model": "ViT-B-32", "pretrained": "openai"}, "ViT-B-32-quickgelu"),
        ({"model": "ViT-B-32", "pretrained": __file__}, "no weights"),
    ],
)
def test_unknown_names_get_one_line_that_knows_better(options, says):
    with pytest.raises(ModelError, match=says) as caught:
        load_clip(**options)
    assert "\n" not in str(caught.value)


def test_a_config_cannot_ask_for_code(tmp_path):
    text = TEXT | {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}
    with pytest.raises(ModelError, match="trust_remote_code"):
        untrained_clip(CONFIG | {"text_cfg": text}, tokenizer=tmp_path)


def test_a_vocabulary_too_small_for_the_tokenizer_is_refused():
    with pytest.raises(ModelError, match="vocab_size"):
        untrained_clip(CONFIG | {"text_cfg": TEXT | {"vocab_size": 600}})
