"""What ``steelyard compress --dry-run`` says that a variant would earn."""

from fractions import Fraction

from steelyard.domain.gates import GatePolicy
from steelyard.domain.measures import Measures
from steelyard.domain.prospect import Basis, Kind, Precedent, prospect
from steelyard.domain.request_cost import Anchor
from steelyard.services.choosing import Earning
from steelyard.services.estimates import Estimate
from steelyard_workflows.compression.forecast import Forecast, Work, lines

NOTHING = Measures()
UNKNOWN = Estimate(None, NOTHING, NOTHING, NOTHING, 0, "", "modelled_load", {}, ())
ANCHOR = Anchor(Fraction(10_000), Fraction(8_000), Fraction(1), "the ledger of digits/1")


def _forecast(*times: str, requests_per_day: float | None = 1_000.0) -> Forecast:
    """Variants that take these shares of their parents' time; making one costs 0.1 dollars."""
    seen = tuple(Precedent(f"other/{n}", Fraction(time), None, None, 10**8)
                 for n, time in enumerate(times, 2))  # fmt: skip
    one = prospect(
        Kind("distilled", seen), Basis(ANCHOR, None, GatePolicy()), Fraction(10_000),
        round(requests_per_day or 0), 0,
    )  # fmt: skip
    earning = Earning(requests_per_day, one)
    return Forecast("digits/1", Work(0, 0, None), UNKNOWN, earning)


def test_a_pay_back_is_said_with_what_it_assumes() -> None:
    """Half of 8,000 nano-USD saved a request: 25,000 requests, 25 days; only the computing."""
    found = _forecast("0.4", "0.5", "0.6")
    text = "\n".join(lines(found))
    assert "Pay-back: after 25,000 requests, 25 days" in text
    assert "(requests to digits/1: 1,000 a day)" in text
    assert "assumed: 0.5 of its parent's time a row [0.4, 0.6]" in text
    assert "other/2, other/3, other/4" in text
    told = found.document()["pay_back"]
    assert (told["verdict"], told["requests"], told["days"]) == ("pays", 25_000, 25.0)
    assert told["assumed_time_of_parent"] == [0.4, 0.5, 0.6]


def test_few_measurements_prove_nothing_and_slower_never_pays() -> None:
    """The words are said, not a large number."""
    assert "Pay-back: not proven" in "\n".join(lines(_forecast("0.5")))
    assert "Pay-back: never" in "\n".join(lines(_forecast("1.2", "1.1", "1.3")))


def test_what_is_not_known_is_said_to_be_unknown() -> None:
    """No traffic, no measurement of the kind, no rate."""
    silent = Forecast("digits/1", Work(0, 0, None), UNKNOWN, None)
    assert lines(silent)[-1].startswith("Pay-back: unknown, digits/1 has served nothing")
    assert silent.document()["pay_back"] is None
    assert lines(_forecast())[-1] == (
        "Pay-back: unknown, no distilled was measured on this hardware yet"
    )
    no_rate = _forecast("0.4", "0.5", "0.6", requests_per_day=None)
    assert "(requests to digits/1: unknown)" in lines(no_rate)[-2]
