import builtins
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from steelyard.domain.errors import InvalidInput
from steelyard.domain.model_version import ModelVersion, Signature, TensorSpec
from steelyard_serving.protocols import scoring
from steelyard_serving.protocols.faults import UnknownMediaType
from steelyard_serving.protocols.tensors import BATCH_LIMIT

FEATURES = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
COLUMNS = Signature(
    (TensorSpec("age", "INT64", (-1,)), TensorSpec("name", "BYTES", (-1, 1)),
     TensorSpec("member", "BOOL", (-1,))),
    (TensorSpec("y", "FP32", (-1, 2)),),
)  # fmt: skip
IMAGES = Signature((TensorSpec("x", "UINT8", (-1, 2, 2)),), FEATURES.outputs)
JSON, CSV, PARQUET = scoring.JSON, scoring.CSV, scoring.PARQUET


def read(document: Any, signature: Signature, media_type: str = JSON) -> dict[str, Any]:
    """The inputs that a request means, as lists."""
    sent = document if isinstance(document, bytes) else json.dumps(document).encode()
    request = scoring.read(sent, {"content-type": media_type}, signature)
    assert request.wanted == ("y",)
    return {name: array.tolist() for name, array in request.inputs.items()}


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": [[1, 2], [3, 4]]},
        {"inputs": {"x": [[1, 2], [3, 4]]}},
        {"instances": [[1, 2], [3, 4]]},
        {"instances": [{"x": [1, 2]}, {"x": [3, 4]}]},
        {"dataframe_split": {"columns": ["x"], "data": [[[1, 2]], [[3, 4]]]}},
        {"dataframe_split": {"columns": ["a", "b"], "index": [7, 8], "data": [[1, 2], [3, 4]]}},
        {"dataframe_split": {"data": [[1, 2], [3, 4]]}},
        {"dataframe_records": [{"x": [1, 2]}, {"x": [3, 4]}]},
        {"dataframe_records": [{"a": 1, "b": 2}, {"b": 4, "a": 3}], "params": {}},
    ],
)
def test_every_form_means_the_same_rows(document: Any) -> None:
    """A table's columns are the input's name, or the features of the only input in order."""
    assert read(document, FEATURES) == {"x": [[1, 2], [3, 4]]}


def test_a_table_names_the_inputs() -> None:
    """Scalar columns become the inputs of their names; others are left out."""
    rows = [{"age": 5, "name": "a", "member": True, "id": 1},
            {"age": 6, "name": "ü", "member": False, "id": 2}]  # fmt: skip
    expected = {"age": [5, 6], "name": [["a"], ["ü"]], "member": [True, False]}
    assert read({"dataframe_records": rows}, COLUMNS) == expected
    lines = "id,age,name,member\r\n1,5,a,True\r\n2,6,ü,False\r\n".encode()
    assert read(lines, COLUMNS, CSV) == expected
    assert read(as_parquet(rows), COLUMNS, PARQUET) == expected


def test_csv_features_are_numbers() -> None:
    """What pandas and numpy write is read, in the datatype of the input."""
    assert read(b"a,b\n1,2.5\n-3,1e-3\n", FEATURES, "text/csv; charset=UTF-8") == {
        "x": [[1, 2.5], [-3, np.float32(1e-3)]]
    }


@pytest.mark.parametrize("cell", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_a_cell_is_flat_or_shaped(cell: Any) -> None:
    """An item with several dimensions may be one list or nested ones."""
    assert read({"dataframe_records": [{"x": cell}]}, IMAGES) == {"x": [[[1, 2], [3, 4]]]}


def test_parquet_holds_lists() -> None:
    """A column of lists is an input, as in JSON."""
    assert read(as_parquet([{"x": [1.0, 2.0]}]), FEATURES, PARQUET) == {"x": [[1, 2]]}


def as_parquet(rows: list[dict[str, Any]]) -> bytes:
    """Rows as pyarrow writes them."""
    sink = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(rows), sink)
    return sink.getvalue()


MANY = [{"x": 1}] * (BATCH_LIMIT + 1)


@pytest.mark.parametrize(
    ("document", "media_type", "words"),
    [
        (b"", JSON, "body: is not JSON"),
        (b"[]", JSON, "body: must be an object with exactly one of"),
        ({"inputs": [[1, 2]], "instances": [[1, 2]]}, JSON, "exactly one of"),
        ({"inputs": [[1, 2]], "params": {"t": 1}}, JSON, "params: no served model takes any"),
        ({"inputs": 5}, JSON, "inputs: must be an object of x"),
        ({"inputs": {"z": [[1, 2]]}}, JSON, "inputs: x is missing"),
        ({"inputs": [[1, 2, 3]]}, JSON, r"inputs: must be \[-1, 2\], found \[1, 3\]"),
        ({"inputs": [[1, 2], [3]]}, JSON, "inputs: nested lists must have equal lengths"),
        ({"inputs": []}, JSON, "inputs: must be"),
        ({"inputs": [["1", "2"]]}, JSON, "inputs: holds something that is not FP32"),
        (b'{"inputs":[[NaN,1]]}', JSON, "body: is not JSON"),
        ({"instances": [{"x": [1, 2]}, {"y": 1}]}, JSON, r"instances\[1\]: has no 'x'"),
        ({"instances": [{"x": [1, 2]}, 5]}, JSON, "instances: must be a list of objects"),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2], [1]]}}, JSON,
         "dataframe_split, row 1: has 1 cells for 2 columns"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, JSON, "same name"),
        ({"dataframe_split": {"columns": [1], "data": [[1]]}}, JSON, "must be a list of names"),
        ({"dataframe_split": {"data": [[1, 2]], "more": 1}}, JSON, "must be an object of data"),
        ({"dataframe_split": {"data": [1]}}, JSON, "must be a list of lists"),
        ({"dataframe_split": {"data": []}}, JSON, "there is no row"),
        ({"dataframe_split": {"data": [[], []]}}, JSON, "no column"),
        ({"dataframe_records": [{}]}, JSON, "no column"),
        ({"dataframe_records": [{"a": 1}]}, JSON, "columns: must be x, or its 2 features, found 1"),
        ({"dataframe_records": [{"x": [1, None]}]}, JSON, "column x: holds something that is not"),
        ({"dataframe_records": MANY}, JSON, "at most 4096 rows, found 4097"),
        (b"a,b\n" + b"1,2\n" * 5000, CSV, "at most 4096 rows, found 4097"),
        (b"a,b\n1,x\n", CSV, "column x: 'x' is not FP32"),
        (b"a,b\n1,\n", CSV, "column x: '' is not FP32"),
        (b"a,b\n1,nan\n", CSV, "column x: a value does not fit FP32"),
        (b"a,b\n1,1_0\n", CSV, "column x: '1_0' is not FP32"),
        (b"a,b\n1\n", CSV, "has 1 cells for 2 columns"),
        (b'a,b\n1,"2\n', CSV, "is not CSV"),
        (b"a,b\n\xff,2\n", CSV, "is not CSV in UTF-8"),
        (b"", CSV, "there is no row"),
        (b"PAR1", PARQUET, "is not Parquet"),
        pytest.param(as_parquet([{"x": [1.0, 2.0]}])[:-9], PARQUET, "is not Parquet", id="cut off"),
        pytest.param(as_parquet(MANY), PARQUET, "at most 4096 rows", id="many rows"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_where(document: Any, media_type: str, words: str) -> None:
    """The message names the place, in a line."""
    with pytest.raises(InvalidInput, match=words) as raised:
        read(document, FEATURES, media_type)
    assert len(raised.value.message) < 300


def test_a_table_needs_all_inputs_of_several() -> None:
    """With more than one input, columns are never taken by their place."""
    with pytest.raises(InvalidInput, match="columns: name, member is missing"):
        read({"dataframe_records": [{"age": 1, "b": 2, "c": 3}]}, COLUMNS)


def test_an_open_item_cannot_come_as_a_table() -> None:
    """A table does not say how long a sequence is."""
    tokens = Signature((TensorSpec("x", "INT64", (-1, -1)),), FEATURES.outputs)
    with pytest.raises(InvalidInput, match="send inputs"):
        read({"dataframe_records": [{"x": [1, 2, 3]}]}, tokens)
    assert read({"inputs": [[1, 2, 3]]}, tokens) == {"x": [[1, 2, 3]]}


@pytest.mark.parametrize(
    ("media_type", "words"),
    [
        (None, "Got None"),
        ("text/plain", "only supports the following content types"),
        ("application/json; charset=latin-1", "only supports UTF-8"),
        ("application/json; format=pandas-split", "Unrecognized content type parameters: format"),
    ],
)
def test_other_media_types_are_refused(media_type: str | None, words: str) -> None:
    """MLflow's words, in plain text."""
    headers = {} if media_type is None else {"content-type": media_type}
    with pytest.raises(UnknownMediaType, match=words) as raised:
        scoring.read(b"{}", headers, FEATURES)
    answer = scoring.refuse(415, raised.value)
    assert answer.headers == {"content-type": "text/plain; charset=utf-8"}
    assert answer.body.decode() == raised.value.message


def test_without_pyarrow_parquet_is_refused_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text names what to install."""
    whole = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(name)
        return whole(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnknownMediaType, match=r"pip install 'steelyard\[parquet\]'"):
        read(b"PAR1", FEATURES, PARQUET)


def test_reading_parquet_brings_no_pandas_into_a_replica(tmp_path: Path) -> None:
    """A replica stays small: pyarrow is loaded when a table comes, and nothing with it."""
    file = tmp_path / "table"
    file.write_bytes(as_parquet([{"x": [1.0, 2.0]}]))
    code = (
        "import sys; from pathlib import Path;"
        "from steelyard_serving.protocols.tables import from_parquet;"
        "print('pyarrow' in sys.modules, from_parquet(Path(sys.argv[1]).read_bytes()).rows,"
        "[name for name in ('pyarrow', 'pandas', 'torch', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False 1 ['pyarrow']"


def test_predictions_are_named_and_never_nan(make_version: Callable[..., ModelVersion]) -> None:
    """An object of outputs by name; floats as the doubles they are, as MLflow writes them."""
    version = make_version(FEATURES)
    request = scoring.read(b'{"inputs":[[1,2]]}', {"content-type": JSON}, FEATURES)
    answer = scoring.write(version, request, {"y": np.array([[0.1, 2]], np.float32)}, "p1")
    assert answer.body == b'{"predictions": {"y": [[0.10000000149011612, 2.0]]}}'
    with pytest.raises(ValueError, match="JSON"):
        scoring.write(version, request, {"y": np.array([[np.inf, 2]], np.float32)}, "p1")
