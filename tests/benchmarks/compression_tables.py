"""The tables of the compression benchmark: variants, floors that have to hold, claims that may not.

Ratios are taken within a round and written as median (least to most). A loss is in points of
accuracy on the test rows, with its 95 % interval from paired answers.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from steelyard.domain.evidence import Evidence
from steelyard.domain.evidence_intervals import paired_loss

TORCH, FP32 = "torch FP32, eager", "fp32"
HALF, HALF_INT8 = "pruned_structured ratio=0.5", "pruned_structured+int8_static ratio=0.5"
SPARSE = "pruned_unstructured sparsity=0.9"
What = Literal["size", "x1", "x32", "torch1", "torch32", "lost", "kl", "agreement", "cosine"]
Times = Mapping[int, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A candidate: bytes, registered evidence, processor ms by batch and round, cosines."""

    name: str
    size_bytes: int | None
    evidence: Evidence | None
    times: Times
    cosines: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A kind that said no, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Floor:
    """A bound that a figure of a variant of a model has to keep; ``least`` or else most."""

    model: str
    variant: str
    what: What
    bound: float
    least: bool

    def kept_by(self, found: float) -> bool:
        """Whether a figure is on the right side of the bound, or on it."""
        return found >= self.bound if self.least else found <= self.bound


WORDS: Mapping[What, str] = {
    "size": "bytes / FP32", "x1": "times ORT FP32, batch 1", "x32": "times ORT FP32, batch 32",
    "torch1": "times torch, batch 1", "torch32": "times torch, batch 32", "lost": "points lost",
    "kl": "mean KL, nats", "agreement": "top-1 agreement", "cosine": "mean cosine of the vector",
}  # fmt: skip


def _floors(model: str, variant: str, *, least: bool, **bounds: float) -> list[Floor]:
    return [Floor(model, variant, what, bounds[what], least) for what in WORDS if what in bounds]


MLP, CNN, ENCODER = "fashion-mlp", "fashion-resnet", "library-of-encoder"
FLOORS: Sequence[Floor] = (
    *_floors(MLP, FP32, least=True, torch32=1.6),
    *_floors(MLP, "int8_dynamic", least=False, size=0.30, lost=0.5, kl=2e-3),
    *_floors(MLP, "int8_dynamic", least=True, x1=1.8, x32=2.2, agreement=0.995),
    *_floors(MLP, "int8_static", least=False, size=0.30, lost=0.5, kl=2e-3),
    *_floors(MLP, "int8_static", least=True, x1=1.8, x32=2.2, agreement=0.98),
    *_floors(MLP, "int4_weight_only", least=False, size=0.20, lost=0.5, kl=2e-3),
    *_floors(MLP, "int4_weight_only", least=True, agreement=0.985),
    *_floors(MLP, HALF, least=False, lost=1.0),
    *_floors(MLP, HALF, least=True, agreement=0.95),
    *_floors(MLP, HALF_INT8, least=False, size=0.13, lost=1.0),
    *_floors(MLP, HALF_INT8, least=True, x32=4.0),
    *_floors(MLP, SPARSE, least=False, lost=1.5),
    *_floors(MLP, "distilled width=0.125", least=True, agreement=0.93),
    *_floors(CNN, FP32, least=True, torch1=2.2),
    *_floors(CNN, "int8_static", least=False, size=0.30, lost=0.5, kl=2e-3),
    *_floors(CNN, "int8_static", least=True, x1=1.6, x32=1.7, agreement=0.98),
    *_floors(CNN, "ov_int8", least=False, lost=0.5, kl=1e-2),
    *_floors(CNN, HALF, least=False, lost=1.0),
    *_floors(CNN, HALF, least=True, agreement=0.95),
    *_floors(CNN, HALF_INT8, least=False, size=0.13, lost=1.0),
    *_floors(CNN, HALF_INT8, least=True, x32=3.0),
    *_floors(CNN, "distilled width=0.375", least=True, agreement=0.93),
    *_floors(ENCODER, FP32, least=True, torch1=1.4),
    *_floors(ENCODER, "int8_dynamic", least=False, size=0.30, lost=0.5),
    *_floors(ENCODER, "int8_dynamic", least=True, x1=1.6, x32=1.4, cosine=0.985),
    *_floors(ENCODER, "ov_int8", least=True, x1=2.2, x32=2.1, cosine=0.99),
    *_floors(ENCODER, "int4_weight_only", least=True, cosine=0.95),
)


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that is often read, by whom it is said, and when figures agree with it."""

    said: str
    by: str
    variants: tuple[str, ...]
    holds: Callable[["Ratios"], bool]


@dataclass(frozen=True, slots=True)
class Ratios:
    """A variant beside its parent: bytes / bytes, times as fast, points lost, share of quality."""

    size: float
    x1: float
    x32: float
    lost: float
    kept: float

    def __str__(self) -> str:
        return (
            f"{self.size:.2f} of the bytes, {self.x1:.2f} and {self.x32:.2f} x, "
            f"{self.lost:+.2f} points lost, {100 * self.kept:.1f} % kept"
        )


CLAIMS: Sequence[Claim] = (
    Claim("half precision: half the bytes, twice as fast", "often read", ("fp16", "bf16"),
          lambda r: r.size <= 0.52 and r.x1 >= 2 and r.x32 >= 2),
    Claim("INT8: 4 times smaller, 2 to 4 times faster", "PyTorch's documentation of quantization",
          ("int8_dynamic", "int8_static", "ov_int8"),
          lambda r: r.size <= 0.30 and r.x1 >= 2 and r.x32 >= 2),
    Claim("INT8: 1 to 2 points lost", "often read", ("int8_dynamic", "int8_static", "ov_int8"),
          lambda r: r.lost <= 2),
    Claim("INT4: 8 times smaller and faster", "often read", ("int4_weight_only",),
          lambda r: r.size <= 0.15 and r.x1 >= 8),
    Claim("90 % of the weights go without loss", "after Han et al., 2015 (9 to 13 times fewer)",
          (SPARSE,), lambda r: r.lost <= 0.1),
    Claim("what is zero is skipped", "often read", (SPARSE,),
          lambda r: r.x1 >= 1.5 and r.x32 >= 1.5),
    Claim("a student: 97 % of the quality, 40 % smaller, 60 % faster", "Sanh et al., 2019",
          ("distilled width=0.125", "distilled width=0.375",
           "layer_drop+distilled+int8_dynamic layers=3"),
          lambda r: r.kept >= 0.97 and r.size <= 0.6 and r.x1 >= 1.6),
)  # fmt: skip


def variants(model: str, found: Sequence[Figure], refused: Sequence[Refusal]) -> str:
    """A line a variant."""
    by_name = {one.name: one for one in found}
    head = ("variant", "bytes", "÷ FP32", "accuracy", "points lost (95 %)", "agreement", "KL, nats",
            "cosine mean / min", "x b1", "x b32", "x torch b1", "x torch b32")  # fmt: skip
    lines = [f"**{model}**\n", _row(head), _row(["---"] * len(head))]
    lines += [_row(_cells(one, by_name[FP32], by_name[TORCH])) for one in found]
    lines += [_row([one.name, f"refused: {one.why}", *[""] * (len(head) - 2)]) for one in refused]
    return "\n".join(lines) + "\n"


def _cells(one: Figure, parent: Figure, torch: Figure) -> list[str]:
    speed = [_spread(ratios(base, one, size)) for base in (parent, torch) for size in (1, 32)]
    seen = one.evidence
    if seen is None:
        return [one.name, *[""] * 7, *speed]
    size = value(one, parent, torch, "size")
    compared = seen.compared and seen.parent_only_right is not None
    return [
        one.name, f"{one.size_bytes:,}", f"{size:.3f}", f"{seen.accuracy:.4f}",
        _loss(seen) if compared else "", f"{seen.agreement:.4f}" if compared else "",
        f"{seen.kl_mean:.1e}" if compared else "",
        "{:.4f} / {:.4f}".format(*one.cosines) if one.cosines else "", *speed,
    ]  # fmt: skip


def _loss(seen: Evidence) -> str:
    assert seen.parent_only_right is not None and seen.own_only_right is not None
    interval = paired_loss(seen.parent_only_right, seen.own_only_right, seen.labels or 0)
    return f"{100 * lost(seen):+.2f} ({100 * interval.low:+.2f} to {100 * interval.high:+.2f})"


def lost(seen: Evidence) -> float:
    """Share of the labels that the variant has lost beside its parent."""
    assert seen.parent_accuracy is not None
    return seen.parent_accuracy - seen.accuracy


def floors(every: Mapping[str, Sequence[Figure]]) -> str:
    """Every bound with what was found; what was not measured says so."""
    head = ("model", "variant", "figure", "bound", "found", "")
    lines = ["**Floors**\n", _row(head), _row(["---"] * len(head))]
    for floor in FLOORS:
        names = {one.name: one for one in every.get(floor.model, ())}
        one = names.get(floor.variant)
        found = value(one, names[FP32], names[TORCH], floor.what) if one else None
        sign = "≥" if floor.least else "≤"
        verdict = "not measured" if found is None else _verdict(floor.kept_by(found))
        lines.append(_row([floor.model, floor.variant, WORDS[floor.what], f"{sign} {floor.bound:g}",
                           "" if found is None else f"{found:.4g}", verdict]))  # fmt: skip
    return "\n".join(lines) + "\n"


def claims(every: Mapping[str, Sequence[Figure]]) -> str:
    """Every claim beside what was found for each model."""
    head = ("claim", "said by", "model and variant", "found", "")
    lines = ["**Claims**\n", _row(head), _row(["---"] * len(head))]
    for claim in CLAIMS:
        for model, figures in every.items():
            names = {one.name: one for one in figures}
            for variant in claim.variants:
                found = _ratios(names[variant], names[FP32]) if variant in names else None
                if found:
                    verdict = _verdict(claim.holds(found))
                    lines.append(_row([claim.said, claim.by, f"{model}, {variant}", str(found),
                                       verdict]))  # fmt: skip
    return "\n".join(lines) + "\n"


def _verdict(holds: bool) -> str:
    return "holds" if holds else "**fails**"


def _ratios(one: Figure, parent: Figure) -> Ratios | None:
    seen = one.evidence
    if seen is None or not seen.compared or one.size_bytes is None or not parent.size_bytes:
        return None
    x1, x32 = (statistics.median(ratios(parent, one, size)) for size in (1, 32))
    return Ratios(one.size_bytes / parent.size_bytes, x1, x32, 100 * lost(seen),
                  seen.accuracy / (seen.parent_accuracy or 1))  # fmt: skip


def value(one: Figure, parent: Figure, torch: Figure, what: What) -> float | None:
    """One figure of a variant; None where it was not measured."""
    seen = one.evidence
    match what:
        case "size":
            if one.size_bytes is None or not parent.size_bytes:
                return None
            return one.size_bytes / parent.size_bytes
        case "x1" | "x32":
            return statistics.median(ratios(parent, one, int(what[1:])))
        case "torch1" | "torch32":
            return statistics.median(ratios(torch, one, int(what[5:])))
        case "cosine":
            return one.cosines[0] if one.cosines else None
        case "lost":
            return 100 * lost(seen) if seen and seen.compared else None
        case "kl":
            return seen.kl_mean if seen else None
        case "agreement":
            return seen.agreement if seen else None


def ratios(base: Figure, one: Figure, size: int) -> list[float]:
    """How many times as fast as ``base``, a figure a round; none where it has no such batch."""
    return [b / o for b, o in zip(base.times[size], one.times[size], strict=False)]


def _spread(found: Sequence[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})" if found else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def vectors(paths: Mapping[str, Path], rows: Any) -> dict[str, tuple[float, float]]:
    """Mean and least cosine of each variant's sentence vectors to the parent's.

    The vector is what the parent's last linear layer reads; a variant whose file has no value of
    that name is left out.
    """
    import numpy as np
    import onnx

    from steelyard.bootstrap.runtimes import runtime_session

    nodes = onnx.load(paths[FP32]).graph.node
    name = [n.input[0] for n in nodes if n.op_type in {"Gemm", "MatMul"}][-1]

    def vector(path: Path) -> Any:
        model = onnx.load(path)
        if name not in {made for node in model.graph.node for made in node.output}:
            return None
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        session = runtime_session("onnxruntime", model.SerializeToString())
        return session.run([name], {session.inputs[0]: rows})[0].astype(np.float64)

    found = {n: vector(path) for n, path in paths.items() if path.suffix == ".onnx"}
    own = found.pop(FP32)
    shown = {}
    for variant, other in found.items():
        if other is not None and other.shape == own.shape:
            norms = np.linalg.norm(own, axis=1) * np.linalg.norm(other, axis=1)
            cosines = (own * other).sum(1) / norms
            shown[variant] = (float(cosines.mean()), float(cosines.min()))
    return shown
