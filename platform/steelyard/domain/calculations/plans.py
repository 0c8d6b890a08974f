"""Plans: size and tokens by scaling laws, to five digits; the constants have no more."""

from fractions import Fraction

from steelyard.domain.calculations.figure import Figures
from steelyard.domain.errors import InvalidInput
from steelyard.domain.quantities import exact
from steelyard.domain.scaling_laws import (
    EPOCH,
    LAWS,
    ScalingLaw,
    compute_optimal,
    compute_optimal_tokens,
    inference_optimal,
    plan,
    tokens_for_loss,
)


def compute_optimal_model(*, training_flop: Fraction, constants: str = EPOCH.name) -> Figures:
    """The model with the lowest loss that a training budget buys."""
    best = compute_optimal(_law(constants), float(training_flop))
    return {
        "params": _rounded(best.params),
        "tokens": _rounded(best.tokens),
        "tokens_per_param": _rounded(best.tokens / best.params),
        "extrapolated": _word(best.extrapolated),
    }


def inference_optimal_model(
    *, params: Fraction, inference_tokens: Fraction, constants: str = EPOCH.name,
    alternative_params: Fraction | None = None,
) -> Figures:  # fmt: skip
    """The cheapest model over its life that is as good as the compute-optimal one of ``params``.

    With ``alternative_params`` also what a model of that size saves.
    """
    law, size, demand = _law(constants), float(params), float(inference_tokens)
    tokens = compute_optimal_tokens(law, size)
    original = plan(law, size, tokens, demand)
    best = inference_optimal(law, original.loss, demand)
    figures: Figures = {
        "compute_optimal_tokens": _rounded(tokens),
        "params": _rounded(best.params),
        "tokens": _rounded(best.tokens),
        "times_the_data": _rounded(best.tokens / tokens),
        "percent_saved": _rounded(100 * (1 - best.flop / original.flop)),
    }
    if alternative_params is not None:
        other = float(alternative_params)
        longer = tokens_for_loss(law, other, original.loss)
        saved = original.flop - plan(law, other, longer, demand).flop
        figures["alternative_flop_saved"] = _rounded(saved)
        figures["alternative_percent_saved"] = _rounded(100 * saved / original.flop)
    return {**figures, "extrapolated": _word(best.extrapolated or original.extrapolated)}


def _law(name: str) -> ScalingLaw:
    if name not in LAWS:
        raise InvalidInput(
            f"There are no constants {name!r}.", hint=f"There are: {', '.join(LAWS)}."
        )
    return LAWS[name]


def _rounded(value: float) -> Fraction:
    return exact(f"{value:.5g}")


def _word(flag: bool) -> str:
    return "yes" if flag else "no"
