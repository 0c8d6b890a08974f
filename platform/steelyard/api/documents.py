"""The pages' values as JSON documents and CSV files. Integers stay integers, unknown stays empty.

Names carry the unit: ``_nano`` nano-USD, ``_mj`` millijoules, ``_ug`` micrograms of CO2e, ``_us``
microseconds (device-microseconds for ``device_us``), ``_bp`` basis points of 10,000. Days are
ISO dates (UTC).
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date
from fractions import Fraction
from typing import Any

from fastapi.responses import Response

from steelyard.api.rollout_views import RolloutView
from steelyard.api.views import IndexRow, ModelView, VersionView
from steelyard.domain.measures import Measures
from steelyard.services import words
from steelyard.services.accounts import Point
from steelyard.services.audits import Trace

SCHEMA_VERSION = 1
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a cell that begins so; text of strangers gets an apostrophe before it."""


def json_answer(document: Mapping[str, Any]) -> Response:
    """One document with ``schema_version``; exact integers, fractions as floats."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **document}, default=_plain)
    return Response(text, media_type="application/json")


def csv_answer(name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> Response:
    """A file with a header line, also when it has no rows."""
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, lineterminator="\r\n")
    writer.writeheader()
    writer.writerows({key: _cell(row.get(key)) for key in columns} for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(file.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def index_document(rows: Iterable[IndexRow]) -> dict[str, Any]:
    """All models."""
    return {"currency": "USD", "models": [asdict(row) for row in rows]}


INDEX_COLUMNS = (
    "model", "stable", "candidate", "weight_bp", "condition", "training_nano", "inference_nano",
    "requests", "break_even_requests", "break_even_days", "break_even_crossed", "beside",
)  # fmt: skip


def index_rows(rows: Iterable[IndexRow]) -> list[dict[str, Any]]:
    """A row a model; break-even on the allocation basis."""
    return [
        asdict(row) | {f"break_even_{k}": v for k, v in asdict(row.break_even).items()}
        for row in rows
    ]


def model_document(view: ModelView) -> dict[str, Any]:
    """A model's whole account, its versions with their evidence, and its rollout."""
    account = asdict(view.statement)
    account.pop("versions")
    versions = [asdict(version) for version in view.versions]
    return {**account, "notices": words.notices(view.statement),
            "registry_answered": view.registry_answered, "versions": versions,
            "forecast": [asdict(line) for line in view.forecast],
            "budgets": [asdict(line) for line in view.budgets],
            "rollout": asdict(view.rollout)}  # fmt: skip


MODEL_COLUMNS = (
    "model", "version", "variant", "relation", "parent", "run_id", "champion", "side",
    "device_us", "cost_nano", "energy_mj", "carbon_ug", "embodied_ug", "flop", "requests",
    "errors", "items",
)  # fmt: skip


def model_rows(view: ModelView) -> list[dict[str, Any]]:
    """A row a version and side; rows add up to the model. Traffic stands with ``serving``."""
    return [row for version in view.versions for row in _sides(view.statement.model, version)]


def _sides(model: str, version: VersionView) -> list[dict[str, Any]]:
    account = version.account
    if account is None:
        return []
    names = {"model": model, "version": account.version, "variant": account.variant,
             "relation": account.relation, "parent": account.parent, "run_id": account.run_id,
             "champion": version.champion}  # fmt: skip
    sides: dict[str, Measures] = {
        "training": account.training, "serving": account.serving, "idle": account.idle,
    }  # fmt: skip
    traffic = {key: getattr(account.traffic, key) for key in ("requests", "errors", "items")}
    return [
        {**names, "side": side, **asdict(measures), **(traffic if side == "serving" else {})}
        for side, measures in sides.items()
    ]


SERIES_COLUMNS = ("at_us", "training_nano", "inference_nano")


def series_rows(series: Iterable[Point]) -> list[dict[str, Any]]:
    """Every point of the chart of cumulative cost."""
    return [asdict(point) for point in series]


def rollout_document(view: RolloutView) -> dict[str, Any]:
    """The rollout with its plan, evidence, events, and the model's promotions."""
    return asdict(view)


ROLLOUT_COLUMNS = (
    "seq", "at_us", "rollout_id", "actor", "verb", "from_condition", "to_condition", "step",
    "weight_bp", "generation", "reason", "evidence", "hash",
)  # fmt: skip


def rollout_rows(view: RolloutView) -> list[dict[str, Any]]:
    """A row an event, oldest first."""
    return [dict(event) for event in view.events]


def prediction_document(trace: Trace) -> dict[str, Any]:
    """The record, and everything behind it."""
    return asdict(trace)


PREDICTION_COLUMNS = (
    "prediction_id", "model", "version", "sha256", "run_id", "parent", "arm", "rollout_id", "step",
    "lineage", "generation", "bucket", "received_us", "busy_ns", "items", "status", "cost_nano",
    "batch_id", "key_id", "latency_us", "cached", "batch", "flags", "trace_id", "shadows",
    "digest_method", "unit_sha256", "inputs_sha256", "outputs_sha256", "segment", "place", "link",
)  # fmt: skip


def prediction_rows(trace: Trace) -> list[dict[str, Any]]:
    """One row: the record, and what is behind it."""
    version, rollout = trace.version or {}, trace.rollout or {}
    behind = {"run_id": version.get("run_id"), "parent": version.get("parent"),
              "rollout_id": rollout.get("rollout_id"), "step": rollout.get("step"),
              "cost_nano": trace.cost_nano, "batch_id": trace.batch_id}  # fmt: skip
    return [{**trace.prediction, **behind}]


def _plain(value: object) -> Any:
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, date):
        return value.isoformat()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no place in a document")


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
