"""The dashboard: every page with its ``.json`` and ``.csv`` of the same query."""

from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse, Response

from steelyard.api import documents as d
from steelyard.api.chart import chart, in_words
from steelyard.api.rendering import page
from steelyard.api.views import Views
from steelyard.domain.span import today

First = Annotated[str, Query(alias="from")]
Last = Annotated[str, Query(alias="to")]


def dashboard(views: Views) -> APIRouter:
    """All pages over the views."""
    router = APIRouter(include_in_schema=False)
    for part in (_index, _rollout, _model, _prediction):
        part(router, views)
    return router


def _index(router: APIRouter, views: Views) -> None:
    @router.get("/")
    def index() -> Response:
        rows = [(row, in_words(row.break_even, row.requests)) for row in views.index()]
        return page("index.html", rows=rows)

    @router.get("/index.json")
    def index_json() -> Response:
        return d.json_answer(d.index_document(views.index()))

    @router.get("/index.csv")
    def index_csv() -> Response:
        return d.csv_answer("models", d.index_rows(views.index()), d.INDEX_COLUMNS)


def _rollout(router: APIRouter, views: Views) -> None:
    @router.get("/models/{model}/rollout")
    def rollout(model: str) -> Response:
        return page("rollout.html", rollout_view=views.rollout(model))

    @router.get("/models/{model}/rollout.json")
    def rollout_json(model: str) -> Response:
        return d.json_answer(d.rollout_document(views.rollout(model)))

    @router.get("/models/{model}/rollout.csv")
    def rollout_csv(model: str) -> Response:
        rows = d.rollout_rows(views.rollout(model))
        return d.csv_answer(f"{model}-rollout", rows, d.ROLLOUT_COLUMNS)


def _model(router: APIRouter, views: Views) -> None:
    @router.get("/models/{model}.json")
    def model_json(model: str, first: First = "", last: Last = "", period: str = "") -> Response:
        return d.json_answer(d.model_document(views.model(model, views.span(first, last, period))))

    @router.get("/models/{model}.csv")
    def model_csv(model: str, first: First = "", last: Last = "", period: str = "") -> Response:
        rows = d.model_rows(views.model(model, views.span(first, last, period)))
        return d.csv_answer(model, rows, d.MODEL_COLUMNS)

    @router.get("/models/{model}/series.csv")
    def series_csv(model: str, first: First = "", last: Last = "", period: str = "") -> Response:
        view = views.model(model, views.span(first, last, period))
        rows = d.series_rows(view.statement.series)
        return d.csv_answer(f"{model}-series", rows, d.SERIES_COLUMNS)

    @router.get("/models/{model}")
    def model_page(model: str, first: First = "", last: Last = "", period: str = "") -> Response:
        view = views.model(model, views.span(first, last, period))
        asked = {"from": first, "to": last, "period": period}
        query = urlencode({key: text for key, text in asked.items() if text})
        return page(
            "model.html", view=view, account=view.statement, chart=chart(view.statement),
            rollout_view=view.rollout, query=f"?{query}" if query else "",
            month=f"{today(view.statement.as_of_us):%Y-%m}",
        )  # fmt: skip


def _prediction(router: APIRouter, views: Views) -> None:
    @router.get("/predictions")
    def look_up(id: str = "") -> Response:
        """The form's target: ids are typed with stray spaces."""
        wanted = id.strip()
        return RedirectResponse(f"/predictions/{quote(wanted, safe='')}" if wanted else "/", 303)

    @router.get("/predictions/{prediction_id}.json")
    def prediction_json(prediction_id: str) -> Response:
        return d.json_answer(d.prediction_document(views.prediction(prediction_id)))

    @router.get("/predictions/{prediction_id}.csv")
    def prediction_csv(prediction_id: str) -> Response:
        rows = d.prediction_rows(views.prediction(prediction_id))
        return d.csv_answer("prediction", rows, d.PREDICTION_COLUMNS)

    @router.get("/predictions/{prediction_id}")
    def prediction_page(prediction_id: str) -> Response:
        return page("prediction.html", trace=views.prediction(prediction_id))
