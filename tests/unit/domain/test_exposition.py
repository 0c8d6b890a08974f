"""Prometheus' text format, read back by Prometheus' own parser."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from steelyard.domain.exposition import Family, Sample, exposed, histogram

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"))


@given(label=TEXT, value=st.integers(0, 2**60) | st.floats(0, 1e18))
def test_whatever_a_label_says_it_is_read_back(label: str, value: float) -> None:
    """Variants are named by people: quotes, backslashes and line ends are only text."""
    document = exposed([Family("a_total", "counter", "Of a.", [Sample({"m": label}, value)])])
    (family,) = text_string_to_metric_families(document)
    (sample,) = family.samples
    assert sample.labels == {"m": label}
    assert float(sample.value) == float(value)


def test_help_stays_one_line() -> None:
    """And a family that has nothing to tell is not told."""
    document = exposed([Family("a", "gauge", "one\ntwo\\", [Sample({}, 1)]),
                        Family("b", "gauge", "none", [])])  # fmt: skip
    (family,) = text_string_to_metric_families(document)
    assert (family.name, family.documentation) == ("a", "one\ntwo\\")


def test_a_histogram_is_cumulative() -> None:
    """Each bucket holds those below it; the last one all, and the count is the same."""
    samples = histogram({"m": "x"}, [0.05, 1], [2, 0, 3], 7.5)
    assert [(s.suffix, s.labels.get("le"), s.value) for s in samples] == [
        ("_bucket", "0.05", 2), ("_bucket", "1", 2), ("_bucket", "+Inf", 5), ("_sum", None, 7.5),
        ("_count", None, 5),
    ]  # fmt: skip
