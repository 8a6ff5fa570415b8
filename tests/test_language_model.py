"""A language model writes the same captions whatever is written beside them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_language_model import build_tiny_language_model

from headwater.errors import ModelError, RunError
from headwater.synthesize.captions import language_model
from headwater.synthesize.captions.decoding import Chooser, Sampler
from headwater.synthesize.captions.instructions import clean, prompt
from headwater.synthesize.captions.language_model import LanguageModel
from headwater.synthesize.captions.writer import Ask
from headwater.synthesize.opening import POINTER

TOKENS = 24

SUBJECTS = [
    ("iris", "class", ""),
    ("striped", "texture", ""),
    ("iris", "background", "in a tall vase on the window sill of a country house"),
    ("F-16A/B", "relation", "next to"),
    ("bengal tiger", "attribute", "asleep"),
    ("lion", "place", ""),
    ("iris", "class", ""),
    ("rose", "background", "at dawn"),
]
ASKS = [
    Ask(i, name.lower(), name, *rest, turn=0, attempt=0) for i, (name, *rest) in enumerate(SUBJECTS)
]


@pytest.fixture(scope="module", params=["gpt2", "llama", "llama that chats"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    family, _, chat = request.param.partition(" ")
    place = tmp_path_factory.mktemp("models") / "tiny"
    return build_tiny_language_model(place, family=family, chat=bool(chat))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_language_model(tmp_path_factory.mktemp("base") / "tiny")


def opened(folder: Path, **settings: Any) -> LanguageModel:
    return LanguageModel(folder, **{"tokens": TOKENS, "device": "cpu"} | settings)


def copied(folder: Path, place: Path) -> Path:
    place.mkdir()
    for path in folder.iterdir():
        (place / path.name).write_bytes(path.read_bytes())
    return place


def test_captions_do_not_depend_on_the_batch(folder: Path) -> None:
    one, three, eight = (opened(folder, block=block).write(ASKS, seed=7) for block in (1, 3, 8))
    assert one == three == eight
    assert len({caption for caption in one if caption}) > 4  # and they are no single phrase


def test_an_answer_depends_on_its_ask_and_the_seed_alone(base: Path) -> None:
    model = opened(base)
    captions = model.write(ASKS, seed=7)
    assert model.write(ASKS[::-1], seed=7) == captions[::-1]
    assert model.write(ASKS[2:3], seed=7) == captions[2:3]
    assert model.write(ASKS, seed=8) != captions
    again = [ask._replace(attempt=1) for ask in ASKS]
    assert all(a != b for a, b in zip(model.write(again, seed=7), captions, strict=True) if a or b)
    assert captions[0] != captions[6]  # the same words, another number


def test_a_batch_says_what_a_loop_without_batch_cache_or_library_says(base: Path) -> None:
    model = opened(base, block=8)
    assert model.write(ASKS, seed=3) == [plainly(model, ask, seed=3) for ask in ASKS]


def plainly(model: LanguageModel, ask: Ask, *, seed: int) -> str:
    ids = model.tokenizer(prompt(ask, seed=seed))["input_ids"]
    begin = len(ids)
    stream = torch.Generator().manual_seed(language_model.stable_seed(seed, *ask))
    for _ in range(TOKENS):
        with torch.inference_mode():
            logits = model.model(torch.tensor([ids])).logits[0, -1]
        p = (logits / 0.8).softmax(-1)
        order = p.argsort(descending=True)
        before = p[order].cumsum(-1) - p[order]
        p[order[before >= 0.9]] = 0
        ids.append(int((p / torch.empty_like(p).exponential_(generator=stream)).argmax()))
        if ids[-1] == model.tokenizer.eos_token_id or "\n" in text_after(model, ids, begin):
            break
    return clean(text_after(model, ids, begin), ask)


def text_after(model: LanguageModel, ids: list[int], begin: int) -> str:
    return str(model.tokenizer.decode(ids[begin:], skip_special_tokens=True)).lstrip()


def test_close_draws_are_written_again_alone(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    complete = LanguageModel._complete

    def watched(self: LanguageModel, prompts: Any, seeds: Any) -> Any:
        batches.append(len(prompts))
        texts, _ = complete(self, prompts, seeds)
        return texts, [number != 1 for number in range(len(texts))]  # the second row is unsure

    expected = opened(base, block=8).write(ASKS, seed=7)
    monkeypatch.setattr(LanguageModel, "_complete", watched)
    assert opened(base, block=4).write(ASKS, seed=7) == expected
    assert batches == [4, 1, 4, 1]


def test_a_line_ends_with_its_newline_and_has_at_most_so_many_tokens(base: Path) -> None:
    def texts(tokens: int) -> list[str]:
        model = opened(base, tokens=tokens)
        texts, _ = model._complete([model._encode(ask, 0) for ask in ASKS] * 2, list(range(16)))
        return [text.strip().rstrip("\N{REPLACEMENT CHARACTER}") for text in texts]

    short, long = texts(5), texts(40)
    assert all(whole.startswith(begin) for begin, whole in zip(short, long, strict=True))
    assert sum(map(len, short)) < sum(map(len, long)) / 2
    assert not any("\n" in text for text in long)


def test_the_sampler_draws_as_often_as_the_model_says_and_only_from_the_top() -> None:
    p = torch.tensor([0.1, 0.45, 0.05, 0.3, 0.1])
    draws = 4000
    sampler = Sampler(range(draws), temperature=1.0, top_p=0.8, device=torch.device("cpu"))
    kept = sampler(torch.zeros(draws, 1), p.log().expand(draws, -1)).argmax(1)
    counts = Counter(kept.tolist())
    assert set(counts) <= {0, 1, 3, 4}  # 0.45 + 0.3 < 0.8, so one of the two 0.1 is in, or both
    shares = [counts[1] / draws, counts[3] / draws]
    whole = 0.75 + 0.1 * len(set(counts) - {1, 3})
    assert shares == pytest.approx([0.45 / whole, 0.3 / whole], abs=0.03)


def test_heat_flattens_and_no_top_p_keeps_all() -> None:
    scores = torch.tensor([8.0, 4.0, 0.0]).expand(2000, -1)
    hot = Sampler(range(2000), temperature=100.0, top_p=1.0, device=torch.device("cpu"))
    cold = Sampler(range(2000), temperature=0.01, top_p=1.0, device=torch.device("cpu"))
    counts = Counter(hot(torch.zeros(2000, 1), scores).argmax(1).tolist())
    assert min(counts.values()) > 550
    assert set(cold(torch.zeros(2000, 1), scores).argmax(1).tolist()) == {0}


@pytest.mark.parametrize("top_p", [0.5, 0.9, 1.0])
def test_what_is_sure_stays_when_the_last_digits_change(top_p: float) -> None:
    rows = 3000
    torch.manual_seed(0)
    scores = torch.randn(rows, 50) * 3
    scores[:, 1] = scores[:, 0] + 1e-5  # near ties, also where top-p cuts
    scores[:, 3] = scores[:, 2] - 1e-5
    shifted = scores + (torch.rand(rows, 50) - 0.5) * 4e-5
    tokens, samplers = [], []
    for s in (scores, shifted):
        sampler = Sampler(range(rows), temperature=0.8, top_p=top_p, device=torch.device("cpu"))
        tokens.append(sampler(torch.zeros(rows, 1), s).argmax(1))
        samplers.append(sampler)
    sure = torch.tensor([samplers[0].is_sure(row, 1) for row in range(rows)])
    assert (tokens[0] == tokens[1])[sure].all()
    assert sure.float().mean() > 0.97


def test_ties_of_a_greedy_choice_are_noted_at_their_step() -> None:
    chooser = Chooser(2)
    ids = torch.zeros(2, 1)
    chooser(ids, torch.tensor([[1.0, 2.0], [1.0, 2.0]]))
    kept = chooser(ids, torch.tensor([[1.0, 2.0], [1.0, 1.0]]))
    assert kept.argmax(1)[0] == 1
    assert [chooser.is_sure(0, 2), chooser.is_sure(1, 1), chooser.is_sure(1, 2)] == [1, 1, 0]


def test_numbers_that_are_none_are_an_error() -> None:
    with pytest.raises(RunError, match="NaN"):
        Chooser(1)(torch.zeros(1, 1), torch.tensor([[float("nan"), 0.0]]))


def test_memory_that_ends_halves_the_block(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = opened(base).write(ASKS, seed=7)
    model, room = opened(base, block=8), 2
    generate = model.model.generate

    def cramped(**told: Any) -> Any:
        if len(told["input_ids"]) > room:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return generate(**told)

    monkeypatch.setattr(model.model, "generate", cramped)
    assert model.write(ASKS, seed=7) == expected
    room = 0
    with pytest.raises(RunError, match="does not fit into memory"):
        model.write(ASKS, seed=7)


def test_names_and_digests_tell_models_and_settings_apart(base: Path, tmp_path: Path) -> None:
    model, other = opened(base), build_tiny_language_model(tmp_path / "other", seed=1)
    assert model.name == "tiny"
    assert str(base.parent) not in model.name + repr(model.digest)
    moved = copied(base, tmp_path / "moved")
    assert opened(moved, block=2).digest == model.digest
    digests = [opened(base, **s).digest for s in ({}, {"top_p": 0.5}, {"temperature": 1.0})]
    assert len({*digests, opened(other).digest}) == 4


def test_a_model_that_reads_too_little_says_how_much_it_must(base: Path) -> None:
    with pytest.raises(ModelError, match=r"reads too little: expected \d+ tokens .* saw 1024"):
        opened(base, tokens=1000).write(ASKS, seed=0)


def test_a_broken_chat_template_is_one_line(tmp_path: Path) -> None:
    folder = build_tiny_language_model(tmp_path / "tiny", chat=True)
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no system role') }}")
    with pytest.raises(ModelError, match=r"chat template of tiny fails: saw no system role"):
        opened(folder).write(ASKS, seed=0)


def test_its_own_generation_settings_are_not_followed(base: Path, tmp_path: Path) -> None:
    expected = opened(base).write(ASKS, seed=7)
    folder = copied(base, tmp_path / "moved")
    told = json.loads((folder / "generation_config.json").read_text())
    told |= {"repetition_penalty": 9.0, "temperature": 3.0, "do_sample": True, "num_beams": 1}
    (folder / "generation_config.json").write_text(json.dumps(told))
    assert opened(folder).write(ASKS, seed=7) == expected


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def half_written(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def without_a_shard(folder: Path) -> None:
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def with_an_index_out_of_the_folder(folder: Path) -> None:
    index = {"weight_map": {"a": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def without_a_tensor(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.h.1.mlp.c_fc.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def without_a_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def without_git_lfs(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(POINTER + b"/spec/v1\noid sha256:00\nsize 9\n")


def with_a_broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def with_code_of_its_own(folder: Path) -> None:
    told = {"auto_map": {"AutoModelForCausalLM": "evil.Model"}, "model_type": "evil"}
    (folder / "config.json").write_text(json.dumps(told))
    (folder / "evil.py").write_text("raise SystemExit('ran')")


BROKEN = {
    pickled: "are a pickle, .* saw pytorch_model.bin. If you trust it, convert it once",
    half_written: "the model broken is not whole: saw model.safetensors: ",
    without_git_lfs: "saw model.safetensors: a pointer of Git LFS. Run `git lfs pull`",
    without_weights: "no weights in broken: expected model.safetensors",
    without_a_shard: "half there: expected model-00001-of-00002.safetensors",
    with_an_index_out_of_the_folder: "names no files",
    without_a_tensor: "are not whole: expected transformer.h.1.mlp.c_fc.weight, saw 1 missing",
    without_a_tokenizer: "tokenizer of broken is not the model's, or not whole",
    with_a_broken_config: "config.json of broken is no JSON object",
    with_code_of_its_own: "needs code of its own|cannot load the model broken",
}


@pytest.mark.parametrize("breaks", BROKEN, ids=lambda breaks: breaks.__name__)
def test_a_broken_model_is_one_clear_line(base: Path, tmp_path: Path, breaks: Any) -> None:
    folder = copied(base, tmp_path / "broken")
    breaks(folder)
    with pytest.raises(ModelError, match=BROKEN[breaks]):
        opened(folder)


def test_no_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="broken is not a transformers model: expected a folder"):
        (tmp_path / "broken").mkdir()
        opened(tmp_path / "broken")
    with pytest.raises(ModelError, match="no model there"):
        opened(tmp_path / "none")
    with pytest.raises(ModelError, match="cannot put the model on nowhere"):
        LanguageModel(build_tiny_language_model(tmp_path / "tiny"), device="nowhere")
