"""Prometheus' text format, version 0.0.4: families of samples as text."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "summary"]
Number = int | float
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Sample:
    """One number; ``suffix`` follows the family's name, as ``_bucket`` does."""

    labels: Mapping[str, str]
    value: Number
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """All samples of one name, and what they mean. The name carries the unit."""

    name: str
    kind: Kind
    help: str
    samples: Sequence[Sample]


def exposed(families: Iterable[Family]) -> str:
    r"""The document. A family without a sample is left out.

    >>> print(exposed([Family("a_total", "counter", "Of a.", [Sample({"m": 'x"y'}, 2)])]), end="")
    # HELP a_total Of a.
    # TYPE a_total counter
    a_total{m="x\"y"} 2
    """
    return "".join(_family(one) for one in families if one.samples)


def histogram(
    labels: Mapping[str, str], bounds: Sequence[Number], counts: Sequence[int], total: Number
) -> list[Sample]:
    """The samples of one histogram: cumulative buckets, the sum of all values, their number.

    ``counts`` has one more than ``bounds``: what is above the last one.
    """
    samples, below = [], 0
    for bound, count in zip((*(f"{one:g}" for one in bounds), "+Inf"), counts, strict=True):
        below += count
        samples.append(Sample({**labels, "le": bound}, below, "_bucket"))
    return [*samples, Sample(labels, total, "_sum"), Sample(labels, below, "_count")]


def _family(family: Family) -> str:
    lines = [f"# HELP {family.name} {_escaped(family.help)}",
             f"# TYPE {family.name} {family.kind}"]  # fmt: skip
    for sample in family.samples:
        pairs = ",".join(f'{name}="{_quoted(text)}"' for name, text in sample.labels.items())
        labels = f"{{{pairs}}}" if pairs else ""
        lines.append(f"{family.name}{sample.suffix}{labels} {sample.value!r}")
    return "\n".join((*lines, ""))


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")
