from fractions import Fraction
from typing import Any

import pytest

from steelyard.domain.compute import (
    EU_ALERT_FLOP,
    AnalyticFlops,
    Network,
    compute_alert,
    distillation_flop,
    estimated,
    inference_flop,
    inherited,
    lora_flop,
    model_flops_utilisation,
    peak_key,
    per_item,
    training_flop,
)
from steelyard.domain.errors import InvalidInput
from steelyard.domain.lineage import upstream
from steelyard.domain.model_version import FlopsProfile
from steelyard.domain.quantities import device_time

BILLION = 10**9
GPT3 = Network(175 * BILLION)
DECODER = Network(BILLION, layers=24, width=2048, context=4096)
COUNTED = FlopsProfile(203_264, 409_088, "operations counted", 1.0, found="counted",
                       signature="FP32[-1,784]", datatype="FP32", torch_version="2.13")  # fmt: skip


def test_training_is_six_per_parameter_and_token() -> None:
    """GPT-3 on 300 billion tokens: 3.15e23, exactly; with recomputation a third more."""
    assert training_flop(GPT3, 300 * BILLION) == 315 * 10**21
    assert training_flop(GPT3, 300 * BILLION, recomputed=True) == 420 * 10**21


def test_inference_is_two_per_parameter_and_token() -> None:
    """One token of a 175 billion parameter network: 350 GFLOP."""
    assert inference_flop(GPT3, 1) == 350 * BILLION


def test_attention_adds_twelve_per_layer_width_and_context() -> None:
    """12·L·d·S per training token, a third of it forward, 16 with recomputation."""
    products = 24 * 2048 * 4096
    assert training_flop(DECODER, 10) == 10 * (6 * BILLION + 12 * products)
    assert inference_flop(DECODER, 10) == 10 * (2 * BILLION + 4 * products)
    assert training_flop(DECODER, 1, recomputed=True) == 8 * BILLION + 16 * products


def test_distillation_trains_the_student_and_asks_the_teacher() -> None:
    """6·N_S·D + 2·N_T·D: the teacher learns nothing."""
    student = Network(66_000_000)
    teacher = Network(110_000_000)
    assert distillation_flop(student, teacher, 1000) == 1000 * (396_000_000 + 220_000_000)


def test_low_rank_adaptation_spares_the_weights_gradient() -> None:
    """4·N·D instead of 6·N·D; attention has no weights to spare."""
    assert lora_flop(GPT3, 100) == 4 * 175 * BILLION * 100
    assert lora_flop(DECODER, 1) == 4 * BILLION + 12 * 24 * 2048 * 4096


def test_the_formula_is_half_as_much_again_for_a_small_perceptron() -> None:
    """Trap: 6·N·D is 49 % above the count for 784-128-10, so counting comes first."""
    by_formula = training_flop(Network(101_770), 1)
    assert round(100 * Fraction(by_formula, 409_088) - 100) == 49


@pytest.mark.parametrize("tokens", [3e11, True, -1, Fraction(1)])
def test_amounts_are_whole_numbers(tokens: Any) -> None:
    """3e11 as a float is refused: products of floats are not exact."""
    with pytest.raises(InvalidInput, match="tokens is a whole number"):
        training_flop(GPT3, tokens)


@pytest.mark.parametrize("parameters", [0, -5, 1.5])
def test_a_network_has_parameters(parameters: Any) -> None:
    """Nothing computes nothing, and there are no half parameters."""
    with pytest.raises(InvalidInput):
        Network(parameters)


@pytest.mark.parametrize(
    ("network", "recomputed", "formula"),
    [
        (GPT3, False, "6·N·D"),
        (GPT3, True, "8·N·D"),
        (DECODER, False, "6·N·D + 12·L·d·S·D"),
        (DECODER, True, "8·N·D + 16·L·d·S·D"),
    ],
)
def test_a_formula_is_named(network: Network, recomputed: bool, formula: str) -> None:
    """Whoever reads an estimate sees how it was made."""
    found = per_item(network, 7, recomputed=recomputed)
    expected = training_flop(network, 7, recomputed=recomputed)
    assert found == AnalyticFlops(formula, inference_flop(network, 7), expected)


def test_an_estimate_says_so_and_keeps_what_could_not_be_counted() -> None:
    """Both figures come from the formula; a count and an estimate never mix."""
    partial = FlopsProfile(203_264, None, "operations counted", 0.8, found="counted",
                           unsupported=("aten._trilinear.default",))  # fmt: skip
    found = estimated(partial, AnalyticFlops("6·N·D", 200, 600))
    assert (found.forward, found.train_step, found.found) == (200, 600, "analytic")
    assert (found.method, found.coverage) == ("analytic, 6·N·D", 0.8)
    assert found.unsupported == ("aten._trilinear.default",)


def test_a_quantized_variant_has_its_parents_operations_in_integers() -> None:
    """Forward as the parent, flagged INT8; there is no step."""
    small = inherited(COUNTED, "parent, int8 ops", "INT8")
    assert (small.forward, small.train_step) == (203_264, None)
    assert (small.datatype, small.found, small.method) == ("INT8", "inherited", "parent, int8 ops")
    assert (small.signature, small.coverage) == ("FP32[-1,784]", 1.0)


def test_zeros_in_the_weights_change_nothing() -> None:
    """An unstructured pruned variant computes what its parent computes."""
    sparse = inherited(COUNTED, "parent, zeros are multiplied too")
    assert (sparse.forward, sparse.datatype) == (203_264, "FP32")


def test_a_variant_of_an_estimate_is_an_estimate() -> None:
    """And one of an unknown is unknown."""
    guessed = estimated(COUNTED, AnalyticFlops("6·N·D", 200, 600))
    small = inherited(guessed, "parent, int8 ops", "INT8")
    assert (small.found, small.method) == ("analytic", "parent, int8 ops (analytic, 6·N·D)")
    nothing = FlopsProfile(None, None, "operations counted", 0.5, found="unknown")
    assert inherited(nothing, "parent, int8 ops", "INT8").found == "unknown"


def test_utilisation_is_work_by_devices_peak_and_seconds() -> None:
    """8 devices of 989 TFLOP/s for an hour, half used."""
    peak = Fraction(989 * 10**12)
    hour = device_time(devices=8, wall_s=3600)
    flop = 8 * 3600 * 989 * 10**12 // 2
    assert model_flops_utilisation(flop, hour, peak) == Fraction(1, 2)
    assert model_flops_utilisation(flop, device_time(device_s=28_800), peak) == Fraction(1, 2)


def test_utilisation_is_unknown_when_a_part_is() -> None:
    """No work, no peak or no time: None, never 0."""
    hour, peak = device_time(device_s=3600), Fraction(10**12)
    assert model_flops_utilisation(None, hour, peak) is None
    assert model_flops_utilisation(10**15, hour, None) is None
    assert model_flops_utilisation(10**15, device_time(device_s=0), peak) is None
    assert model_flops_utilisation(0, hour, peak) == 0


def test_a_utilisation_above_one_is_shown() -> None:
    """It exposes a wrong peak; clamping would hide it."""
    second = device_time(device_s=1)
    assert model_flops_utilisation(3 * 10**12, second, Fraction(10**12)) == 3
    with pytest.raises(InvalidInput, match="positive"):
        model_flops_utilisation(1, second, Fraction(0))


def test_a_peak_is_one_of_a_device_and_a_datatype() -> None:
    """The same device has another peak in another datatype; a sparse one has no key."""
    assert peak_key("h100-sxm", "BF16") == "h100-sxm/bf16"
    assert peak_key("h100-sxm", "INT8") != peak_key("h100-sxm", "BF16")
    for name in ("bf16-sparse", "sparse", "bf16/sparse", ""):
        with pytest.raises(InvalidInput, match="no dense peak"):
            peak_key("h100-sxm", name)


LINEAGE = {"student-1": ["teacher"], "student-2": ["teacher"],
           "ensemble": ["student-1", "student-2"]}  # fmt: skip


def test_training_compute_counts_each_ancestor_once() -> None:
    """A teacher of two students stands in the sum once, not once a path."""
    own = {"teacher": 6 * 10**24, "student-1": 10**24, "student-2": 10**24, "ensemble": 10**24}
    alert = compute_alert("ensemble", upstream(own, LINEAGE, "ensemble"))
    assert (alert.flop, alert.state) == (9 * 10**24, "below")


def test_the_alert_rings_at_ten_to_the_twenty_five() -> None:
    """Own training alone would stay below; with its parent it does not."""
    own: dict[str, int | None] = {"base": EU_ALERT_FLOP - 1, "tuned": 1}
    parents = {"tuned": ["base"]}
    assert compute_alert("tuned", upstream(own, parents, "tuned")).state == "reached"
    assert compute_alert("base", upstream(own, parents, "base")).state == "below"


def test_an_unknown_part_proves_nothing_below() -> None:
    """A lower bound can reach the threshold, but cannot show that a model stays under it."""
    own: dict[str, int | None] = {"base": None, "tuned": 1}
    parents = {"tuned": ["base"]}
    alert = compute_alert("tuned", upstream(own, parents, "tuned"))
    assert (alert.state, alert.flop) == ("unknown", 1)
    assert alert.unknown == {"base"}
    assert compute_alert("base", upstream(own, parents, "base")).unknown == {"base"}
    own["tuned"] = EU_ALERT_FLOP
    assert compute_alert("tuned", upstream(own, parents, "tuned")).state == "reached"
