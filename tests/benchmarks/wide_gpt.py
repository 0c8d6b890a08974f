"""A wider GPT than the recipe's, 25 million numbers: for memory, and for the MFU of a GPU."""

from steelyard_workflows.data import Dataset, Split
from steelyard_workflows.recipe import Recipe
from steelyard_workflows.recipes.byte_gpt import ByteGpt, reference
from steelyard_workflows.workflow import Checkpoints, Scaling, Train, Workflow

WIDTH, HEADS, LAYERS = 512, 8, 8


def few_rows(workflow: Workflow) -> Dataset:
    """The recipe's text, 192 windows to learn from and 32 to judge by."""
    whole = reference(workflow)
    return Dataset(
        *(
            Split(split.inputs[:count], split.labels[:count], split.rows[:count])
            for split, count in ((whole.train, 192), (whole.validation, 32), (whole.test, 32))
        )
    )


def wide_gpt() -> Recipe:
    """Twelve steps of sixteen rows."""
    workflow = Workflow(
        model="wide-gpt",
        recipe="wide_gpt:wide_gpt",
        train=Train(epochs=1, steps=12, batch_size=16, optimizer="adamw", learning_rate=1e-3),
        scaling=Scaling(workers=2),
        checkpoints=Checkpoints(keep=1),
    )
    return Recipe(workflow, few_rows, lambda _: ByteGpt(WIDTH, HEADS, LAYERS))
