from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.errors import InvalidInput
from steelyard.domain.evidence import Evidence, Figures
from steelyard.domain.evidence_intervals import paired_loss, share_interval
from steelyard.domain.gates import (
    DEFAULT_POLICY,
    LARGEST_LOSS,
    Finding,
    GatePolicy,
    check_policy,
    judge,
    passed,
)

HERE = {"machine": "x86_64", "cpu_flags": "avx2", "runtime": "onnxruntime 1.31.1",
        "provider": "CPUExecutionProvider", "threads": "1"}  # fmt: skip
VARIANT = Evidence(
    size_bytes=25, accuracy=0.95, examples=1000, latency_ms_p50=0.5, latency_ms_p95=0.9,
    hardware=HERE, parent_size_bytes=100, parent_accuracy=0.952, parent_latency_ms_p50=1.0,
    parent_latency_ms_p95=1.5, agreement=0.99, labels=1000, chance=0.1, accuracy_low=0.935,
    accuracy_high=0.962, parent_only_right=4, own_only_right=2,
    own=Figures(energy_mj=2.0, energy_method="modelled_load"), parent=Figures(energy_mj=4.0),
)  # fmt: skip
EVERYTHING = GatePolicy(0.02, 0.3, 0.6, 0.6, 1.0, 0.98, 0.9)

counts = st.integers(0, 400)


def verdicts(findings: tuple[Finding, ...]) -> dict[str, str]:
    """Gate to verdict."""
    return {finding.gate: finding.verdict for finding in findings}


def test_a_good_variant_passes_every_gate_that_is_asked() -> None:
    """Each gate is judged, with what was found and against what."""
    findings = judge(EVERYTHING, VARIANT, HERE)
    assert set(verdicts(findings)) == {
        "chance", "quality", "agreement", "size", "latency", "latency_class", "energy", "accuracy",
    }  # fmt: skip
    assert passed(findings) and all(f.found is not None and f.why for f in findings)


@pytest.mark.parametrize(
    ("gate", "worse"),
    [
        ("quality", {"parent_only_right": 90}),
        ("agreement", {"agreement": 0.9}),
        ("size", {"size_bytes": 40}),
        ("latency", {"latency_ms_p50": 0.7}),
        ("latency_class", {"latency_ms_p95": 1.2}),
        ("energy", {"own": Figures(energy_mj=3.0)}),
        ("accuracy", {"accuracy_low": 0.8, "accuracy_high": 0.85}),
        ("chance", {"accuracy": 0.1, "accuracy_low": 0.08, "accuracy_high": 0.12}),
    ],
)
def test_each_gate_closes_on_what_it_is_about(gate: str, worse: dict[str, object]) -> None:
    """One figure on the wrong side fails its gate, and the version with it."""
    findings = judge(EVERYTHING, replace(VARIANT, **worse), HERE)  # type: ignore[arg-type]
    assert verdicts(findings)[gate] == "fail" and not passed(findings)


@pytest.mark.parametrize(
    ("gate", "missing"),
    [
        ("quality", {"parent_only_right": None}),
        ("agreement", {"agreement": None}),
        ("size", {"parent_size_bytes": None}),
        ("latency", {"parent_latency_ms_p50": None}),
        ("energy", {"own": None}),
        ("accuracy", {"accuracy_low": None}),
        ("chance", {"chance": None}),
    ],
)
def test_what_was_not_measured_does_not_pass(gate: str, missing: dict[str, object]) -> None:
    """Unknown is told as unknown, and opens nothing."""
    evidence = replace(VARIANT, **missing)  # type: ignore[arg-type]
    findings = judge(EVERYTHING, evidence, HERE, has_parent=True)
    assert verdicts(findings)[gate] == "unknown" and not passed(findings)


def test_a_version_without_evidence_passes_nothing() -> None:
    """Every gate that is asked is unknown; those about a parent only where there is one."""
    findings = judge(EVERYTHING, None, HERE)
    assert set(verdicts(findings).values()) == {"unknown"} and len(findings) == 8
    alone = judge(EVERYTHING, None, HERE, has_parent=False)
    assert set(verdicts(alone)) == {"chance", "accuracy", "latency_class"}
    assert not passed(judge(GatePolicy(), None))


def test_gates_about_a_parent_do_not_apply_to_a_trained_version() -> None:
    """It has nothing to be compared with; chance, accuracy and the latency class remain."""
    trained = replace(VARIANT, parent_size_bytes=None, parent_only_right=None, agreement=None)
    findings = judge(EVERYTHING, trained, HERE)
    assert set(verdicts(findings)) == {"chance", "accuracy", "latency_class"}
    assert passed(findings)


def test_a_variant_that_was_measured_alone_is_not_let_off() -> None:
    """Who leaves the parent out of the record does not leave its gates out."""
    alone = replace(VARIANT, parent_size_bytes=None, parent_only_right=None, own_only_right=None)
    assert not passed(judge(DEFAULT_POLICY, alone, HERE, has_parent=True))


@pytest.mark.parametrize("key", sorted(HERE))
def test_stale_evidence_opens_no_gate_of_speed_or_energy(key: str) -> None:
    """Other flags, runtime or threads: those gates are unknown and say why; quality stays."""
    stale = replace(VARIANT, hardware={**HERE, key: "other"})
    findings = judge(EVERYTHING, stale, HERE)
    told = verdicts(findings)
    assert {told[g] for g in ("latency", "latency_class", "energy")} == {"unknown"}
    assert {told[g] for g in ("chance", "accuracy", "quality", "agreement", "size")} == {"pass"}
    assert all(key in f.why for f in findings if f.verdict == "unknown")


def test_labels_too_few_to_tell_hold_the_version() -> None:
    """Twenty labels without a single difference prove nothing; ten thousand do."""
    few = replace(VARIANT, labels=20, parent_only_right=0, own_only_right=0)
    assert verdicts(judge(DEFAULT_POLICY, few))["quality"] == "unknown"
    many = replace(VARIANT, labels=10_000, parent_only_right=0, own_only_right=0)
    assert verdicts(judge(GatePolicy(max_quality_loss=0.001), many))["quality"] == "pass"


def test_the_paired_interval_is_the_design_s() -> None:
    """Of 10,000 labels, 2 % answered differently: about ±0.28 points."""
    found = paired_loss(100, 100, 10_000)
    assert found.high == pytest.approx(0.0028, abs=0.0001) and found.low == -found.high


@given(lost=counts, won=counts, more=st.integers(0, 400))
def test_swapping_the_two_sides_mirrors_the_interval(lost: int, won: int, more: int) -> None:
    """What one side lost the other won."""
    trials = lost + won + more
    one, other = paired_loss(lost, won, trials), paired_loss(won, lost, trials)
    assert one.low == pytest.approx(-other.high) and one.high == pytest.approx(-other.low)


@given(
    lost=counts, won=counts, more=st.integers(1, 4000),
    limit=st.floats(0, LARGEST_LOSS, allow_nan=False),
)  # fmt: skip
def test_more_lost_labels_never_open_the_quality_gate(
    lost: int, won: int, more: int, limit: float
) -> None:
    """Losing one label more, or winning one less, turns no other verdict into a pass."""
    policy = GatePolicy(max_quality_loss=limit)

    def opens(parent_only: int, own_only: int) -> bool:
        evidence = replace(VARIANT, labels=lost + won + more, parent_only_right=parent_only,
                           own_only_right=own_only)  # fmt: skip
        return verdicts(judge(policy, evidence))["quality"] == "pass"

    if opens(lost + 1, won):
        assert opens(lost, won)
    if won and opens(lost, won - 1):
        assert opens(lost, won)


@given(
    figure=st.sampled_from(["size_bytes", "latency_ms_p50", "latency_ms_p95"]),
    value=st.integers(1, 10_000), more=st.integers(0, 10_000),
)  # fmt: skip
def test_a_larger_or_slower_version_never_passes_more(figure: str, value: int, more: int) -> None:
    """Every gate about cost is monotone."""
    worse = judge(EVERYTHING, replace(VARIANT, **{figure: value + more}), HERE)  # type: ignore[arg-type]
    better = judge(EVERYTHING, replace(VARIANT, **{figure: value}), HERE)  # type: ignore[arg-type]
    assert not passed(worse) or passed(better)


@given(successes=st.integers(0, 500), failures=st.integers(0, 500))
def test_an_interval_holds_its_share_and_narrows_with_examples(
    successes: int, failures: int
) -> None:
    """Between 0 and 1 around the share; four times the examples are never less sure."""
    trials = successes + failures
    found = share_interval(successes, trials)
    assert 0 <= found.low <= found.high <= 1
    if trials:
        assert found.low <= successes / trials + 1e-12 and successes / trials <= found.high + 1e-12
        wide = share_interval(4 * successes, 4 * trials)
        assert wide.high - wide.low <= found.high - found.low + 1e-12


def test_a_policy_that_cannot_be_meant_is_refused_with_every_fault() -> None:
    """Losses are from 0 to a half, shares from 0 to 1, ratios and milliseconds above 0."""
    with pytest.raises(InvalidInput) as refused:
        check_policy(GatePolicy(-0.1, 0.0, float("nan"), float("inf"), -1.0, 1.5, 2.0))
    assert len(refused.value.faults) == 7
    check_policy(EVERYTHING)
    check_policy(GatePolicy())
