import numpy as np

from steelyard_workflows.data import Dataset
from steelyard_workflows.recipes.digits_cnn import digits_cnn
from steelyard_workflows.workflow import Data


def _load(data: Data) -> Dataset:
    recipe = digits_cnn()
    return recipe.data(recipe.workflow.model_copy(update={"data": data}))


def test_no_row_is_in_two_splits(digits: Dataset) -> None:
    """What judges was never learned from, and no row is lost."""
    splits = (digits.train, digits.validation, digits.test)
    rows = np.concatenate([split.rows for split in splits])
    assert len(rows) == len(set(rows.tolist())) == 1797
    assert [len(split) for split in splits] == [1200, 237, 360]


def test_the_same_data_has_the_same_digest(digits: Dataset) -> None:
    """The digest names the rows as they are used."""
    again = _load(Data())
    assert again.sha256 == digits.sha256
    assert len({digits.train.sha256, digits.validation.sha256, digits.test.sha256}) == 3


def test_pictures_have_the_shape_and_range_that_serving_gets(digits: Dataset) -> None:
    """float32, one channel of 8x8, 0..1."""
    images = digits.test.inputs
    assert images.shape == (360, 1, 8, 8) and images.dtype == np.float32
    assert images.min() == 0.0 and images.max() == 1.0


def test_a_label_shift_changes_labels_and_nothing_else(digits: Dataset) -> None:
    """Each label becomes its successor, 9 becomes 0; the digest tells the two apart."""
    shifted = _load(Data(label_shift=1))
    assert np.array_equal(shifted.test.inputs, digits.test.inputs)
    assert np.array_equal(shifted.test.labels, (digits.test.labels + 1) % 10)
    assert shifted.test.sha256 != digits.test.sha256
