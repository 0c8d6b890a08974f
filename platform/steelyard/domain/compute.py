"""Compute: FLOPs by formula where they cannot be counted, model FLOPs utilisation, the EU alert.

1 multiply-add = 2 FLOP, whole numbers throughout. A formula is an estimate and says so: 6·N·D is
49 % too high for a small perceptron. N counts the parameters that multiply activations: look-ups
(embeddings) left out, of a mixture of experts only the active ones. D counts tokens.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from steelyard.domain.errors import InvalidInput
from steelyard.domain.lineage import Upstream
from steelyard.domain.model_version import FlopsProfile
from steelyard.domain.quantities import DeviceTime

AlertState = Literal["reached", "below", "unknown"]

EU_ALERT_FLOP = 10**25
"""Training compute above which Regulation (EU) 2024/1689, Art. 51(2), presumes systemic risk."""

PEAK_DATATYPES = frozenset({"fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "int4"})


@dataclass(frozen=True, slots=True)
class Network:
    """What the formulas need: N parameters; for attention also L layers, width d, context S.

    Without the last three, attention's own products are left out: a short context hardly
    notices. N alone is Kaplan et al. (arXiv 2001.08361), attention is PaLM's appendix B
    (arXiv 2204.02311): 12·L·d·S per training token, a third of it forward.

    Raises:
        InvalidInput: an amount that is no whole number from 0, or no parameters at all.
    """

    parameters: int
    layers: int = 0
    width: int = 0
    context: int = 0

    def __post_init__(self) -> None:
        for name in ("parameters", "layers", "width", "context"):
            _whole(name, getattr(self, name))
        if not self.parameters:
            raise InvalidInput("A network without parameters computes nothing.")

    @property
    def forward_weights(self) -> int:
        """FLOPs of one token through the weights: 2·N."""
        return 2 * self.parameters

    @property
    def forward_attention(self) -> int:
        """FLOPs of one token in attention's own products: 4·L·d·S, a causal mask counted full."""
        return 4 * self.layers * self.width * self.context


def inference_flop(network: Network, tokens: int) -> int:
    """2·N·D: one pass forward; calibrating a quantized network costs the same a token.

    >>> inference_flop(Network(175 * 10**9), 1)
    350000000000
    """
    return (network.forward_weights + network.forward_attention) * _whole("tokens", tokens)


def training_flop(network: Network, tokens: int, *, recomputed: bool = False) -> int:
    """6·N·D: forward and twice that backward; 8·N·D when activations are computed again.

    >>> training_flop(Network(175 * 10**9), 300 * 10**9)
    315000000000000000000000
    """
    return (4 if recomputed else 3) * inference_flop(network, tokens)


def distillation_flop(student: Network, teacher: Network, tokens: int) -> int:
    """6·N_S·D + 2·N_T·D: the student learns, the teacher only answers."""
    return training_flop(student, tokens) + inference_flop(teacher, tokens)


def lora_flop(network: Network, tokens: int) -> int:
    """≈ 4·N·D: forward and the gradient of the activations; frozen weights need none.

    Attention has no weights of its own, so its backward pass stays whole. The adapters' own
    work, about 6 FLOP per adapter parameter and token, is left out.
    """
    per_token = 2 * network.forward_weights + 3 * network.forward_attention
    return per_token * _whole("tokens", tokens)


@dataclass(frozen=True, slots=True)
class AnalyticFlops:
    """FLOPs of one item by a named formula: what stands in for a count that is incomplete."""

    formula: str
    forward: int
    train_step: int


def per_item(network: Network, tokens: int, *, recomputed: bool = False) -> AnalyticFlops:
    """The dense formulas for one item of so many tokens (1 for an item that is no sequence)."""
    attention = f" + {16 if recomputed else 12}·L·d·S·D" if network.forward_attention else ""
    return AnalyticFlops(
        f"{8 if recomputed else 6}·N·D{attention}",
        inference_flop(network, tokens),
        training_flop(network, tokens, recomputed=recomputed),
    )


def estimated(counted: FlopsProfile, formula: AnalyticFlops) -> FlopsProfile:
    """The profile with both figures from a formula; what could not be counted stays named."""
    return replace(
        counted,
        forward=formula.forward,
        train_step=formula.train_step,
        method=f"analytic, {formula.formula}",
        found="analytic",
    )


def inherited(
    parent: FlopsProfile, method: str, datatype: str | None = None
) -> FlopsProfile:  # fmt: skip
    """The profile of a variant with its parent's structure: the same operations forward.

    Quantizing changes the ``datatype`` they compute in. Setting weights to zero changes nothing,
    because dense kernels multiply zeros too. A variant with other layers or widths is counted
    anew instead. An estimate stays one.
    """
    by_formula = parent.found == "analytic"
    return replace(
        parent,
        train_step=None,
        method=f"{method} ({parent.method})" if by_formula else method,
        found="unknown" if parent.forward is None else "analytic" if by_formula else "inherited",
        datatype=datatype or parent.datatype,
    )


def computes_in(profile: FlopsProfile | None) -> str | None:
    """The datatype of a version's operations as usage windows say it; None when not known.

    >>> computes_in(FlopsProfile(None, None, "counted", 1.0, datatype="BF16"))
    'bf16'
    """
    return profile.datatype.lower() if profile and profile.datatype else None


def peak_key(device_model: str, datatype: str) -> str:
    """The key of a ``peak_flops`` coefficient: dense FLOP/s of one device in one datatype.

    >>> peak_key("h100-sxm", "BF16")
    'h100-sxm/bf16'

    Raises:
        InvalidInput: no datatype that peaks are declared for. Sparse peaks, twice as high, have
            no key on purpose.
    """
    name = datatype.lower()
    if name not in PEAK_DATATYPES:
        known = ", ".join(sorted(PEAK_DATATYPES))
        raise InvalidInput(f"{datatype!r} has no dense peak.", hint=f"Use one of: {known}.")
    return f"{device_model}/{name}"


def model_flops_utilisation(
    flop: int | None, time: DeviceTime, dense_peak: Fraction | None
) -> Fraction | None:
    """MFU = FLOP / (devices · dense peak · seconds); ``dense_peak`` is FLOP/s of one device.

    None when the work, the time or the peak is unknown. It is not clamped: a value above 1 shows
    that the declared peak is of another device or datatype.

    Raises:
        InvalidInput: a peak that is not positive.
    """
    if dense_peak is not None and dense_peak <= 0:
        raise InvalidInput(f"A peak is positive, found {dense_peak} FLOP/s.")
    if flop is None or dense_peak is None or not time.device_us:
        return None
    return _whole("flop", flop) / (dense_peak * time.device_s)


@dataclass(frozen=True, slots=True)
class ComputeAlert:
    """Cumulative training FLOP of a version and its distinct ancestors, against 10^25.

    With ``unknown`` versions ``flop`` is a lower bound: it can reach the threshold, but it
    cannot show that a model stays below.
    """

    flop: int
    unknown: frozenset[str]

    @property
    def state(self) -> AlertState:
        """``reached`` from 10^25 on, ``below`` only when every part is known."""
        if self.flop >= EU_ALERT_FLOP:
            return "reached"
        return "unknown" if self.unknown else "below"


def compute_alert(version: str, training: Upstream) -> ComputeAlert:
    """Judge the training FLOP that ``lineage.upstream`` found for a version."""
    own_unknown = frozenset[str]() if training.own is not None else frozenset({version})
    return ComputeAlert((training.own or 0) + training.upstream, training.unknown | own_unknown)


def _whole(name: str, value: int) -> int:
    """Check an amount: 3e11 as a float would hide that a product of floats is not exact."""
    if type(value) is not int or value < 0:
        raise InvalidInput(f"{name} is a whole number from 0, found {value!r}.")
    return value
