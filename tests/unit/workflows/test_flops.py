"""What is counted, what is known to be missing, and what counting must leave alone."""

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from steelyard.bootstrap.registry import registry
from steelyard.domain.compute import Network, per_item
from steelyard.domain.model_version import Candidate, FlopsProfile, ModelVersion, Signature
from steelyard.settings import Settings
from steelyard_workflows.flops import METHOD, PER_CALL, count, profile
from steelyard_workflows.recipes.digits_cnn import DigitsCnn

attention = nn.functional.scaled_dot_product_attention


def mlp() -> nn.Sequential:
    """784-128-10."""
    return nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def parameters(model: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(p.numel() for p in model.parameters())


def flops(work: Callable[[], Any]) -> int:
    """FLOPs of a call that can be counted completely."""
    found = count(work)
    assert found.coverage == 1, found.unknown
    return found.flops


def quietly(work: Callable[[], Any]) -> Any:
    """What ``work`` gives, without torch's warnings of deprecated parts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return work()


def without_gradient(work: Callable[[], Any]) -> Any:
    """What ``work`` gives where nothing is remembered for a backward pass."""
    with torch.no_grad():
        return work()


# The acceptance figures


def test_a_perceptron_counts_what_pencil_and_paper_say() -> None:
    """Batch 32: forward 6,504,448 and step 13,090,816; ten epochs of 60,000 samples (A6)."""
    found = profile(mlp(), (784,), 10)
    assert found.forward is not None and found.train_step is not None
    assert found.forward * 32 == 6_504_448
    assert found.train_step * 32 == 13_090_816
    assert found.train_step * 10 * 60_000 == 245_452_800_000


def test_a_batch_counts_the_same_in_one_call() -> None:
    """The figure of one item times 32 is what a batch of 32 computes (A6)."""
    network, rows = mlp(), torch.zeros(32, 784)
    labels = torch.zeros(32, dtype=torch.long)
    assert flops(lambda: network(rows)) == 6_504_448
    loss = nn.functional.cross_entropy
    assert flops(lambda: loss(network(rows), labels).backward()) == 13_090_816


def test_attention_counts_both_products() -> None:
    """Scores and weighted values of twelve heads, silently 0 under torch's own counter (A7)."""
    q = torch.zeros(1, 12, 64, 64)
    assert flops(lambda: attention(q, q, q)) == 12_582_912


def test_a_recurrent_layer_counts_every_time_step() -> None:
    """An LSTM 64 to 128 over ten steps of four rows, silently 0 under torch's own counter (A7)."""
    recurrent, steps = nn.LSTM(64, 128), torch.zeros(10, 4, 64)
    assert flops(lambda: recurrent(steps)) == 7_864_320


class ThreeWayProduct(nn.Module):
    """Uses an operation that nobody has a formula for."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = nn.Bilinear(4, 4, 4)
        self.linear = nn.Linear(4, 4)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Products of pairs, then a linear layer."""
        logits: torch.Tensor = self.linear(self.pairs(rows, rows))
        return logits


def test_an_operation_without_a_formula_makes_the_profile_unknown() -> None:
    """Unknown is None, not a number that is too small, and the operation is named (A7)."""
    found = profile(ThreeWayProduct(), (4,), 4)
    assert found.forward is None and found.train_step is None
    assert 0 < found.coverage < 1
    assert (found.found, found.unsupported) == ("unknown", ("aten._trilinear.default",))


# Fused operations, whatever switches they hide behind


def test_fused_attention_counts_like_its_parts() -> None:
    """A network that insists on the fused kernel has the same figures, forward and step."""
    q = torch.zeros(2, 4, 16, 8, requires_grad=True)

    def fused() -> None:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            attention(q, q, q).sum().backward()

    forward = 2 * 2 * 2 * 4 * 16 * 16 * 8
    assert flops(fused) == flops(lambda: attention(q, q, q).sum().backward()) == 3 * forward


def test_heads_that_share_keys_count_per_query_head() -> None:
    """Grouped queries save memory, not products."""
    q, shared = torch.zeros(1, 12, 64, 64), torch.zeros(1, 4, 64, 64)

    def fused() -> None:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            attention(q, shared, shared, enable_gqa=True)

    assert flops(fused) == 12_582_912
    assert flops(lambda: attention(q, shared, shared, enable_gqa=True)) == 12_582_912


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 7_864_320),
        ({"bias": False}, 7_864_320),
        ({"num_layers": 2, "bidirectional": True}, 2 * 40 * 512 * (2 * (64 + 128) + 2 * 384)),
        ({"proj_size": 32}, 2 * 40 * (512 * (64 + 32) + 32 * 128)),
    ],
)
def test_a_recurrent_network_counts_alike_fused_and_native(
    options: dict[str, Any], expected: int
) -> None:
    """Layers, directions and projections: the same figure with mkldnn and without."""
    recurrent, steps = nn.LSTM(64, 128, **options), torch.zeros(10, 4, 64)

    def fused() -> None:
        with torch.backends.mkldnn.flags(enabled=True):
            recurrent(steps)

    assert flops(lambda: recurrent(steps)) == expected
    assert quietly(lambda: flops(fused)) == expected


def test_the_step_of_a_recurrent_network_leaves_out_what_nobody_needs() -> None:
    """Weights of ten steps, hidden gradients of nine, no gradient of the input."""
    recurrent, steps = nn.LSTM(64, 128), torch.zeros(10, 4, 64)
    forward, hidden = 7_864_320, 9 * 2 * 4 * 512 * 128
    assert flops(lambda: recurrent(steps)[0].sum().backward()) == 2 * forward + hidden


def test_the_fused_recurrent_step_counts_all_that_it_computes() -> None:
    """The mkldnn kernel always makes the gradients of weights and inputs."""
    recurrent, steps = nn.LSTM(64, 128), torch.zeros(10, 4, 64)

    def fused() -> None:
        with torch.backends.mkldnn.flags(enabled=True):
            recurrent(steps)[0].sum().backward()

    assert quietly(lambda: flops(fused)) == 3 * 7_864_320


@pytest.mark.parametrize(("kind", "gates"), [(nn.GRU, 3), (nn.RNN, 1)])
def test_other_recurrent_cells_count_their_gates(kind: Any, gates: int) -> None:
    """A GRU has three matrices a step, a plain cell one."""
    recurrent, steps = kind(64, 128), torch.zeros(10, 4, 64)
    assert flops(lambda: recurrent(steps)) == 2 * 40 * gates * 128 * (64 + 128)


@pytest.mark.parametrize("fast", [False, True])
def test_a_transformer_layer_counts_alike_on_its_fast_path(fast: bool) -> None:
    """One fused operation or many: projections, attention and both linear layers."""
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
    rows = torch.zeros(2, 8, 64)

    def forward() -> None:
        torch.backends.mha.set_fastpath_enabled(fast)
        layer(rows)

    linear = 2 * 16 * (4 * 64 * 64 + 2 * 64 * 128)
    products = 2 * 2 * 2 * 8 * 8 * 64
    assert flops(lambda: without_gradient(forward)) == linear + products


@pytest.mark.parametrize("fast", [False, True])
def test_multi_head_attention_counts_alike_on_its_fast_path(fast: bool) -> None:
    """The attention of a transformer layer by itself."""
    heads, rows = nn.MultiheadAttention(64, 4, batch_first=True).eval(), torch.zeros(2, 8, 64)

    def forward() -> None:
        torch.backends.mha.set_fastpath_enabled(fast)
        heads(rows, rows, rows)

    expected = 2 * 16 * 4 * 64 * 64 + 2 * 2 * 2 * 8 * 8 * 64
    assert flops(lambda: without_gradient(forward)) == expected


def test_dynamic_int8_counts_like_the_layer_that_it_replaces() -> None:
    """The integer kernel does as many multiply-adds, also for rows of sequences."""
    plain = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
    quantize: Any = torch.ao.quantization.quantize_dynamic
    small = quietly(lambda: quantize(plain, {nn.Linear}))
    for shape in ((4, 64), (4, 3, 64)):
        rows = torch.zeros(shape)
        assert quietly(partial(flops, partial(small, rows))) == flops(partial(plain, rows))


# Single operations

MATRIX, VECTOR = torch.eye(6) + 1, torch.ones(6)
SYMMETRIC = MATRIX @ MATRIX.T + torch.eye(6)
INTEGERS = torch.ones(32, 32, dtype=torch.int8)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        pytest.param(lambda: MATRIX @ VECTOR, 72, id="matrix by vector"),
        pytest.param(lambda: torch.addmv(VECTOR, MATRIX, VECTOR), 72, id="addmv"),
        pytest.param(lambda: VECTOR @ VECTOR, 12, id="dot"),
        pytest.param(lambda: torch.vdot(VECTOR, VECTOR), 12, id="vdot"),
        pytest.param(lambda: MATRIX.clone().addmm_(MATRIX, MATRIX), 432, id="in place"),
        pytest.param(lambda: torch.addbmm(MATRIX, MATRIX[None], MATRIX[None]), 432, id="addbmm"),
        pytest.param(lambda: torch._int_mm(INTEGERS, INTEGERS), 2 * 32**3, id="int8 matrices"),
        pytest.param(lambda: torch.einsum("i,i->", VECTOR, VECTOR), 12, id="einsum dot"),
        pytest.param(lambda: torch.einsum("ij,j->i", MATRIX, VECTOR), 72, id="einsum vector"),
        pytest.param(lambda: torch.einsum("ij,jk,kl->il", *[MATRIX] * 3), 864, id="einsum of 3"),
        pytest.param(lambda: torch.linalg.cholesky(SYMMETRIC), 91, id="cholesky"),
        pytest.param(lambda: torch.cholesky_solve(MATRIX[:, :2], SYMMETRIC), 144, id="its solve"),
        pytest.param(lambda: torch.linalg.lu_factor(MATRIX), 125, id="lu"),
        pytest.param(lambda: torch.linalg.solve(MATRIX, VECTOR), 125 + 66, id="solve"),
        pytest.param(lambda: torch.linalg.solve(MATRIX, MATRIX), 125 + 6 * 66, id="solve for 6"),
        pytest.param(lambda: torch.linalg.inv(MATRIX), 125 + 6 * 66, id="inverse"),
        pytest.param(
            lambda: torch.linalg.solve_triangular(MATRIX, MATRIX[:, :2], upper=True), 72,
            id="triangular",
        ),
    ],
)  # fmt: skip
def test_one_operation_counts_its_multiply_adds(work: Callable[[], Any], expected: int) -> None:
    """Matrix products by any name at 2 FLOP a multiply-add; factorisations by their sums."""
    assert flops(work) == expected


@pytest.mark.parametrize("size", [1, 2, 5])
def test_factorisations_count_what_their_loops_do(size: int) -> None:
    """The closed formulas equal the sums over columns: divisions, roots and multiply-adds."""
    matrix = torch.eye(size)
    lu = sum((size - k) + 2 * (size - k) ** 2 for k in range(1, size + 1))
    below = range(size)
    cholesky = sum(1 + 2 * k + (size - k - 1) * (2 * k + 1) for k in below)
    assert count(lambda: torch.linalg.lu_factor(matrix)).flops == lu
    assert count(lambda: torch.linalg.cholesky(matrix)).flops == cholesky


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda: torch.linalg.svd(MATRIX), id="iterative"),
        pytest.param(lambda: MATRIX.to_sparse_csr() @ MATRIX, id="sparse"),
        pytest.param(
            lambda: torch.complex(MATRIX, MATRIX) @ torch.complex(MATRIX, MATRIX), id="complex"
        ),
        pytest.param(lambda: torch.fft.rfft(VECTOR), id="transform"),
        pytest.param(
            lambda: torch.cond(VECTOR.sum() > 0, torch.sin, torch.cos, (VECTOR,)), id="branch"
        ),
    ],
)
def test_what_has_no_exact_figure_is_named(work: Callable[[], Any]) -> None:
    """No guess: the dense formula would be wrong for sparse and complex numbers."""
    found = quietly(lambda: count(work))
    assert found.flops == 0 and found.coverage < 1 and found.unknown


def test_compiling_hides_nothing() -> None:
    """A compiled network is counted like the plain one, without being compiled."""
    plain, rows = mlp(), torch.zeros(32, 784)
    compiled: Any = torch.compile(plain, fullgraph=True)
    assert flops(lambda: compiled(rows)) == 6_504_448


def test_inference_mode_hides_nothing() -> None:
    """Composite operations arrive whole there; they are taken apart."""
    linear, rows, q = nn.Linear(6, 6), torch.zeros(2, 6), torch.zeros(1, 12, 64, 64)

    def work() -> None:
        with torch.inference_mode():
            linear(rows)
            attention(q, q, q)

    assert flops(work) == 2 * 2 * 36 + 12_582_912


def test_activations_that_are_computed_again_count_again() -> None:
    """Checkpointing pays for memory with one more forward pass: 8 for 6."""
    linear = nn.Linear(4, 4)
    rows = torch.ones(2, 4, requires_grad=True)

    def layer(inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = linear(inputs).relu()
        return out

    def again() -> None:
        checkpoint(layer, rows, use_reentrant=False).sum().backward()

    assert flops(lambda: layer(rows).sum().backward()) == 6 * 2 * 16
    assert flops(again) == 8 * 2 * 16


def test_nothing_to_compute_is_unknown_rather_than_free() -> None:
    """A count of 0 would be a claim."""
    assert count(lambda: torch.zeros(3)).coverage == pytest.approx(0.0)


# Profiles


def test_a_convolution_counts_two_per_multiply_add() -> None:
    """Both convolutions and both linear layers of the digits network, by hand."""
    by_hand = 2 * (64 * 32 * 9 + 64 * 64 * 32 * 9 + 1024 * 128 + 128 * 10)
    found = profile(DigitsCnn(), (1, 8, 8), 10)
    assert (found.forward, found.coverage) == (by_hand, 1.0)


def test_a_profile_says_how_it_was_found() -> None:
    """Input, datatype of the operations, method and torch: enough to repeat it."""
    found = profile(mlp(), (784,), 10)
    assert (found.found, found.method) == ("counted", METHOD)
    assert (found.signature, found.datatype) == ("FP32[-1,784]", "FP32")
    assert (found.unsupported, found.torch_version) == ((), str(torch.__version__))
    half = profile(mlp().bfloat16(), (784,), 10, dtype=torch.bfloat16)
    assert (half.signature, half.datatype) == ("BF16[-1,784]", "BF16")
    assert half.forward == found.forward


class Reader(nn.Module):
    """Classifies sequences of 16 tokens with two transformer layers."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.1, batch_first=True)
        self.tokens = nn.Embedding(50, 64)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(64, 5)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """[n, S] to [n, 5]."""
        logits: torch.Tensor = self.out(self.layers(self.tokens(tokens)).mean(1))
        return logits


@pytest.mark.parametrize("length", [16, 32])
def test_a_sequence_costs_by_its_length(length: int) -> None:
    """One profile a signature: attention grows with the square of the length."""
    found = profile(Reader(), (length,), 5, dtype=torch.int64)
    layer = 2 * length * (4 * 64 * 64 + 2 * 64 * 128) + 4 * length * length * 64
    assert found.signature == f"INT64[-1,{length}]"
    assert found.forward == 2 * layer + 2 * 64 * 5
    assert found.train_step == 3 * found.forward


def test_a_caller_may_name_a_formula_for_what_cannot_be_counted() -> None:
    """The figures are then estimates and say so; the reason stays with them."""
    formula = per_item(Network(parameters(ThreeWayProduct())), 1)
    found = profile(ThreeWayProduct(), (4,), 4, analytic=formula)
    assert (found.forward, found.train_step) == (2 * 88, 6 * 88)
    assert (found.found, found.method) == ("analytic", "analytic, 6·N·D")
    assert found.unsupported and found.coverage < 1


def test_a_formula_never_replaces_a_complete_count() -> None:
    """6·N·D is 49 % above the count of this network."""
    formula = per_item(Network(parameters(mlp())), 1)
    found = profile(mlp(), (784,), 10, analytic=formula)
    assert (found.found, found.train_step) == ("counted", 13_090_816 // 32)


class BatchCorrelation(nn.Module):
    """Compares every row with every other."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """[n, d] to [n, d] through an [n, n] matrix."""
        return rows @ rows.T @ rows


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Linear(4, 4), BatchCorrelation()),
        parametrizations.spectral_norm(nn.Linear(4, 4)),
    ],
    ids=["grows faster than the batch", "has work of its own in every call"],
)
def test_work_that_is_no_items_own_has_no_figure_for_an_item(network: nn.Module) -> None:
    """The whole was counted, but dividing it by the batch would be true for one batch only."""
    found = profile(network, (4,), 4)
    assert (found.train_step, found.unsupported, found.coverage) == (None, (PER_CALL,), 1.0)


def test_a_network_without_products_is_unknown_rather_than_free() -> None:
    """Normalisation counts 0 by convention; 0 for a whole network would be a claim."""
    found = profile(nn.LayerNorm(4), (4,), 4)
    assert (found.forward, found.train_step, found.found) == (None, None, "unknown")
    assert (found.coverage, found.unsupported) == (0, ())


# Pruning


def test_zeros_cost_as_much_as_other_weights() -> None:
    """Unstructured pruning changes no figure."""
    network = mlp()
    before = profile(network, (784,), 10)
    prune.l1_unstructured(network[0], "weight", amount=0.7)
    assert profile(network, (784,), 10) == before


def test_a_smaller_structure_costs_less() -> None:
    """Half of the hidden units is half of the FLOPs."""
    narrow = nn.Sequential(nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 10))
    assert profile(narrow, (784,), 10).forward == 203_264 // 2


def test_frozen_weights_need_no_gradient() -> None:
    """A step that only trains the head counts forward and the head's gradient."""
    network = mlp()
    network[0].requires_grad_(False)
    found = profile(network, (784,), 10)
    assert found.train_step == 203_264 + 2 * 128 * 10


# What counting leaves alone


def test_counting_leaves_the_network_alone() -> None:
    """Weights, statistics, gradients and modes are those from before."""
    first = nn.Linear(8, 8)
    network = nn.Sequential(first, nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
    network[1].eval()
    network(torch.ones(2, 8)).sum().backward()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert first.weight.grad is not None
    gradient = first.weight.grad.clone()
    assert profile(network, (8,), 3).coverage == 1
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in before)
    assert torch.equal(first.weight.grad, gradient)
    assert [module.training for module in network] == [True, False, True, True]


def test_counting_leaves_the_settings_and_random_numbers_alone() -> None:
    """Training after it draws what it would have drawn; the fast path is as before."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    network = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    profile(network, (4,), 4)
    assert torch.equal(torch.rand(3), expected)
    assert torch.backends.mha.get_fastpath_enabled() == fast_path


# Into the registry and back


@pytest.fixture
def registered(tmp_path: Path) -> Callable[[FlopsProfile], ModelVersion]:
    """Registers a version with a profile in a real registry and reads it back."""
    settings = Settings(home=tmp_path)

    def register(flops: FlopsProfile) -> ModelVersion:
        candidate = Candidate(
            model="digits", run_id="", source=str(tmp_path), artifact="model.onnx", sha256="0" * 64,
            size_bytes=1, variant="fp32", relation="trained", signature=Signature((), ()),
            flops=flops,
        )  # fmt: skip
        return registry(settings).register(candidate)

    return register


@pytest.mark.integration
def test_a_profile_comes_back_from_the_registry_as_it_was(
    registered: Callable[[FlopsProfile], ModelVersion],
) -> None:
    """Every figure and every reason, also beyond 64 bits."""
    found = replace(profile(ThreeWayProduct(), (4,), 4), forward=10**25 + 1)
    assert registered(found).flops == found


@pytest.mark.integration
def test_a_version_from_before_these_fields_still_loads(
    registered: Callable[[FlopsProfile], ModelVersion], tmp_path: Path
) -> None:
    """Its figures stand, and how they were found is not known rather than made up."""
    from mlflow.tracking import MlflowClient

    made = registered(FlopsProfile(2, 6, "by hand", 1.0))
    old = {"forward": 2, "train_step": 6, "method": "by hand", "coverage": 1.0}
    settings = Settings(home=tmp_path)
    client = MlflowClient(settings.registry_uri, settings.registry_uri)
    client.set_model_version_tag("digits", str(made.version), "steelyard.flops", json.dumps(old))
    flops = registry(settings).version("digits", made.version).flops
    assert flops == FlopsProfile(2, 6, "by hand", 1.0)
    assert flops.found is None and flops.unsupported == ()
