"""Which size and how many tokens: training alone, or training together with inference.

Decoder language models only. Loss L = E + A/N^α + B/D^β of N parameters trained on D tokens
(Hoffmann et al., arXiv 2203.15556); training takes 6·N·D FLOPs, inference 2·N per token.
With inference demand the best model is smaller and trained longer (Sardana et al.,
arXiv 2401.00448). Floats throughout: the constants have three or four digits.
"""

import math
from dataclasses import dataclass

from steelyard.domain.errors import InvalidInput

FITTED_PARAMS = (70e6, 16e9)
FITTED_TOKENS = (5e9, 500e9)
"""What the fits rest on: over 400 models of 70 million to 16 billion parameters on 5 to 500
billion tokens (abstract of arXiv 2203.15556). Beyond, every figure is an extrapolation."""

STEPS = 200


@dataclass(frozen=True, slots=True)
class ScalingLaw:
    """One set of constants and where it comes from."""

    name: str
    a: float
    b: float
    e: float
    alpha: float
    beta: float
    source: str

    def loss(self, params: float, tokens: float) -> float:
        """Predicted loss in nats per token."""
        return float(self.e + self.a / params**self.alpha + self.b / tokens**self.beta)


EPOCH = ScalingLaw("epoch", 482.01, 2085.43, 1.8172, 0.3478, 0.3658, "arXiv 2404.10102")
SARDANA = ScalingLaw("sardana", 406.4, 410.7, 1.69, 0.336, 0.283, "arXiv 2401.00448")
HOFFMANN = ScalingLaw("hoffmann", 406.4, 410.7, 1.69, 0.34, 0.28, "arXiv 2203.15556")
LAWS = {law.name: law for law in (EPOCH, SARDANA, HOFFMANN)}
"""``epoch`` is the default: the published constants contradict the paper's own advice (they ask
for 93 tokens per parameter at 5.76e23 FLOPs), the refit does not."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A model to train: size, tokens, its loss, and the FLOPs over its life.

    ``extrapolated``: size or tokens lie outside what the constants were fitted on.
    """

    params: float
    tokens: float
    loss: float
    training_flop: float
    inference_flop: float
    extrapolated: bool

    @property
    def flop(self) -> float:
        """Training and inference together."""
        return self.training_flop + self.inference_flop


def plan(law: ScalingLaw, params: float, tokens: float, inference_tokens: float = 0) -> Plan:
    """What training ``params`` on ``tokens`` and then serving ``inference_tokens`` takes.

    Raises:
        InvalidInput: a size or number of tokens that is not positive, or a negative demand.
    """
    if params <= 0 or tokens <= 0 or inference_tokens < 0:
        raise InvalidInput(
            f"Parameters and tokens are positive and demand is not negative, found "
            f"{params:g}, {tokens:g} and {inference_tokens:g}."
        )
    inside = (
        FITTED_PARAMS[0] <= params <= FITTED_PARAMS[1]
        and FITTED_TOKENS[0] <= tokens <= FITTED_TOKENS[1]
    )
    return Plan(params, tokens, law.loss(params, tokens), 6 * params * tokens,
                2 * params * inference_tokens, not inside)  # fmt: skip


def compute_optimal(law: ScalingLaw, flop: float) -> Plan:
    """The lowest loss that ``flop`` of training buys.

    N* = G·(C/6)^(β/(α+β)), D* = (C/6)^(α/(α+β))/G, G = (αA/βB)^(1/(α+β)).

    >>> best = compute_optimal(EPOCH, 5.76e23)
    >>> round(best.tokens / best.params, 2)
    18.39
    """
    if flop <= 0:
        raise InvalidInput(f"A budget of FLOPs is positive, found {flop:g}.")
    both = law.alpha + law.beta
    params = _g(law) * (flop / 6) ** (law.beta / both)
    return plan(law, params, flop / 6 / params)


def compute_optimal_tokens(law: ScalingLaw, params: float) -> float:
    """The tokens with which a model of ``params`` is the compute-optimal one.

    Raises:
        InvalidInput: a size that is not positive.
    """
    _check_size(params)
    g = _g(law)
    return float((params / g) ** (law.alpha / law.beta) / g)


def tokens_for_loss(law: ScalingLaw, params: float, loss: float) -> float:
    """The tokens with which ``params`` reach ``loss``.

    Raises:
        InvalidInput: a model of that size never reaches it, or the size is not positive.
    """
    _check_size(params)
    left = loss - law.e - law.a / params**law.alpha
    if left <= 0:
        floor = loss - left
        raise InvalidInput(
            f"{params:.4g} parameters never reach a loss of {loss:.4g}; their limit is {floor:.4g}."
        )
    return float((law.b / left) ** (1 / law.beta))


def inference_optimal(law: ScalingLaw, loss: float, inference_tokens: float) -> Plan:
    """The fewest FLOPs over a model's life, 6·N·D + 2·N·D_inf, at a given ``loss``.

    Bisects the derivative over ln D: (α+β)·B·D^−β + (β·B·D_inf/3)·D^−(β+1) = α(ℓ−E), whose left
    side falls with D, so there is one root; then N = (A/(ℓ−E−B·D^−β))^(1/α).

    Raises:
        InvalidInput: a loss at or below the law's irreducible one.
    """
    if loss <= law.e:
        raise InvalidInput(f"No model has a loss of {loss:.4g}; {law.name}'s limit is {law.e}.")
    target = law.alpha * (loss - law.e)

    def excess(tokens: float) -> float:
        own = (law.alpha + law.beta) * law.b * tokens**-law.beta
        served = law.beta * law.b * inference_tokens / 3 * tokens ** -(law.beta + 1)
        return float(own + served - target)

    low = math.log(law.b / (loss - law.e)) / law.beta  # below it no size reaches the loss
    high = low + 1.0
    while excess(math.exp(high)) > 0:
        high += 1.0
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(math.exp(middle)) > 0 else (low, middle)
    tokens = math.exp(high)
    params = (law.a / (loss - law.e - law.b * tokens**-law.beta)) ** (1 / law.alpha)
    return plan(law, params, tokens, inference_tokens)


@dataclass(frozen=True, slots=True)
class FlopPrice:
    """What a FLOP costs in one phase: ``per_peak_flop`` at a model FLOPs utilisation of 1.

    ``mfu``: of training, or of one side of inference, 0 < mfu ≤ 1.
    """

    per_peak_flop: float
    mfu: float


@dataclass(frozen=True, slots=True)
class Demand:
    """Tokens read and tokens written over a model's life, and at which price.

    Reading a prompt uses a device better than writing an answer does, so the two differ in MFU.
    """

    input_tokens: float
    output_tokens: float
    per_peak_flop: float
    input_mfu: float
    output_mfu: float


def money_equivalent_tokens(training: FlopPrice, demand: Demand) -> float:
    """Inference tokens that make the money problem the FLOP problem (arXiv 2401.00448, eq. 6).

    6·N·D·C_tr/MFU_tr + 2·N·C_inf·(D_in/MFU_in + D_out/MFU_out) is the total of FLOPs times
    C_tr/MFU_tr, with D_inf = (C_inf/C_tr)·MFU_tr·(D_in/MFU_in + D_out/MFU_out).

    >>> money_equivalent_tokens(FlopPrice(1, 0.5), Demand(2e12, 0, 1, 0.5, 0.01))
    2000000000000.0
    """
    ratios = (training.mfu, demand.input_mfu, demand.output_mfu)
    if (
        training.per_peak_flop <= 0
        or demand.per_peak_flop <= 0
        or not all(0 < mfu <= 1 for mfu in ratios)
    ):
        raise InvalidInput(
            f"Prices are positive and utilisations above 0 and at most 1, found {ratios}."
        )
    served = demand.input_tokens / demand.input_mfu + demand.output_tokens / demand.output_mfu
    return demand.per_peak_flop / training.per_peak_flop * training.mfu * served


def plan_cost(training: FlopPrice, chosen: Plan) -> float:
    """What a plan costs over its life, its demand being money-equivalent tokens."""
    return chosen.flop * training.per_peak_flop / training.mfu


def _check_size(params: float) -> None:
    if params <= 0:
        raise InvalidInput(f"A model has parameters, found {params:g}.")


def _g(law: ScalingLaw) -> float:
    ratio = law.alpha * law.a / (law.beta * law.b)
    return float(ratio ** (1 / (law.alpha + law.beta)))
