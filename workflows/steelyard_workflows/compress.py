"""``steelyard compress``: a variant of a version, measured beside it, its own cost booked."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from steelyard.bootstrap import Platform
from steelyard.cli.output import note
from steelyard.domain.errors import is_full
from steelyard.domain.evidence import Evidence
from steelyard.domain.model_version import ModelVersion
from steelyard.settings import Settings
from steelyard_workflows.booking.metering import Stopwatch, charge_for, now_us, stopwatch
from steelyard_workflows.compression import making
from steelyard_workflows.compression.claim import check_parent, claimed, no_room, registered
from steelyard_workflows.compression.making import Product
from steelyard_workflows.compression.order import Order, ordered
from steelyard_workflows.evaluation.evidence import Subject, measure, subject
from steelyard_workflows.evaluation.runtime import library_of
from steelyard_workflows.register import Entry, register
from steelyard_workflows.tracking.run import tracked
from steelyard_workflows.tracking.run_page import file_for, log_artifact, log_metrics, set_tags
from steelyard_workflows.variants.kind import Value


def compress(
    reference: str, kind: str, settings: Settings, options: Mapping[str, Value] | None = None
) -> ModelVersion:  # fmt: skip
    """Make, measure and register a variant of ``MODEL/VERSION``.

    One that was made by the same recipe before is the answer, and nothing is made.

    Raises:
        InvalidInput: no such kind of variant or option, or the reference names no single version.
        NotFound: the parent does not exist.
        Conflict: another process is making the same.
        Refused: the parent's bytes were changed, it is a variant itself, its training is not
            known, or the kind does not suit it.
        Unavailable: the disk is full.
        KeyboardInterrupt: Ctrl-C; the attempt is booked as cancelled, nothing is registered.
    """
    order = ordered(reference, kind, options or {}, settings)
    with claimed(order, settings) as folder:
        found = registered(order, settings)
        if found is not None:
            note(f"{found.name} was made by the same recipe; nothing is made again.")
            return found
        return _carried_out(order, folder, settings)


def _carried_out(order: Order, folder: Path, settings: Settings) -> ModelVersion:
    version, workflow = order.source.version, order.source.workflow
    tags = {"steelyard.kind": "compress", "steelyard.variant": order.kind,
            "steelyard.parent": version.name, "mlflow.parentRunId": version.run_id,
            "steelyard.recipe_sha256": order.sha256}  # fmt: skip
    with tracked(settings, workflow, f"compress-{order.kind}", tags) as run_id:
        note(f"Run {run_id}: {version.name} to {order.kind}")
        _keep_recipe(order, run_id, settings)
        charge = charge_for(settings, run_id, version.model, 1, workflow.team)
        with (
            _disk_of(order),
            stopwatch(settings, charge, f"compress/{run_id}", is_attempt=True) as watch,
        ):
            product = making.make(order, folder, watch)
            evidence = _evaluated(product, order, settings, watch)
            _show(product, evidence, run_id, settings)
            check_parent(order, settings)
            variant = register(settings, product.artifact, _entry(order, product, run_id, evidence))
            set_tags(settings, run_id, {"steelyard.version": variant.name})
            return variant


@contextmanager
def _disk_of(order: Order) -> Iterator[None]:
    """A full disk ends the attempt with a message that says so."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise no_room(error, order) from error


def _keep_recipe(order: Order, run_id: str, settings: Settings) -> None:
    file = file_for(settings, run_id, "recipe.json")
    file.write_text(order.text, encoding="utf-8")
    log_artifact(settings, run_id, file)


def _evaluated(
    product: Product, order: Order, settings: Settings, watch: Stopwatch
) -> Evidence:  # fmt: skip
    source = order.source
    own, parent = Subject(product.artifact.path, product.runtime), subject(source.path)
    with watch.measure("evaluate") as work:
        measured = measure(own, source.dataset.test, parent, Platform(settings).device_power)
        work.items = measured.inferences
        # Part of it in the parent, part in the variant: hence no datatype.
        work.flop = measured.flop(product.flops, source.flops)
    return measured.evidence


def _show(product: Product, evidence: Evidence, run_id: str, settings: Settings) -> None:
    """Figures, remarks and files on the page of the variant's run, and for whoever waits."""
    before, own = evidence.parent_latency_ms_p50, evidence.latency_ms_p50
    note(
        f"  accuracy {evidence.accuracy:.4f} (parent {evidence.parent_accuracy:.4f}), "
        f"p50 {own} ms (parent {before} ms)"
    )
    for name, value in product.figures.items():
        note(f"  {name} {value:,.4f}" if value < 2 else f"  {name} {value:,.0f}")
    here = f"measured here: {own / before:.2f} of the parent's time" if before else ""
    for warning in product.warnings:
        note(f"  warning: {warning}; {here}, agreement {evidence.agreement:.4f}")
    for remark in product.said:
        note(f"  {remark}")
    log_metrics(settings, run_id, product.figures, 0, now_us())
    said = {"steelyard.remarks": product.said, "steelyard.warnings": product.warnings}
    set_tags(settings, run_id, {k: json.dumps(v) for k, v in said.items() if v})
    for file in product.files:
        log_artifact(settings, run_id, file.replace(file_for(settings, run_id, file.name)))


def _entry(order: Order, product: Product, run_id: str, evidence: Evidence) -> Entry:
    version = order.source.version
    return Entry(
        model=version.model,
        run_id=run_id,
        variant=order.kind,
        relation=order.steps[0].kind.relation,
        flops=product.flops,
        evidence=evidence,
        parameters=product.parameters,
        parent=version.version,
        recipe_sha256=order.sha256,
        runtime=library_of(product.runtime),
        envelope=version.envelope,
    )
