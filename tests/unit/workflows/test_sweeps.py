"""Sweeps: what is drawn, which trials that makes, which of them wins. Nothing is started."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.domain.errors import InvalidInput, Refused
from steelyard_workflows.sweeps import board
from steelyard_workflows.sweeps.board import Standing
from steelyard_workflows.sweeps.draws import different, drawn, value
from steelyard_workflows.sweeps.forecast import trial_lines
from steelyard_workflows.sweeps.plan import Trial, planned
from steelyard_workflows.sweeps.prepare import at_once, largest
from steelyard_workflows.workflow import Draw, EarlyStopping, Sweep, Workflow
from steelyard_workflows.workflow_file import parse

SEEDS = st.integers(0, 2**31 - 1)
NUMBERS = st.integers(1, 10_000)
SHARES = st.fractions(0, 1).filter(lambda share: share < 1)
RATES = Draw(log_uniform=(1e-5, 1e-1))
BATCHES = Draw(choice=(16, 32, 64))


def sweeping(search: str, more: str = "") -> Workflow:
    """The digits workflow with a search space."""
    return parse(f"recipe: digits_cnn\nsweep:\n  search: {{{search}}}\n{more}")


def faults(workflow: Workflow) -> dict[str, str]:
    """What is wrong with a sweep, by place."""
    with pytest.raises(InvalidInput) as refused:
        planned(workflow)
    return {fault.where: fault.what for fault in refused.value.faults}


@given(seed=SEEDS, number=NUMBERS)
def test_the_same_seed_and_number_draw_the_same_values(seed: int, number: int) -> None:
    """On every machine, whatever was drawn before."""
    sweep = Sweep(search={"train.learning_rate": RATES, "train.batch_size": BATCHES}, seed=seed)
    assert drawn(sweep, number) == drawn(sweep, number)


def test_the_draws_of_a_seed_never_change() -> None:
    """A sweep that is repeated next year draws these."""
    sweep = Sweep(search={"train.learning_rate": RATES, "train.batch_size": BATCHES}, seed=7)
    assert [drawn(sweep, number) for number in (1, 2)] == [
        {"train.batch_size": 32, "train.learning_rate": 0.00742131},
        {"train.batch_size": 16, "train.learning_rate": 2.63229e-05},
    ]


@given(seed=SEEDS, number=NUMBERS)
def test_another_key_leaves_the_draws_of_the_others(seed: int, number: int) -> None:
    """A search space can be widened by a key without a new lottery."""
    few = Sweep(search={"train.learning_rate": RATES}, seed=seed)
    more = Sweep(search={"train.learning_rate": RATES, "train.batch_size": BATCHES}, seed=seed)
    name = "train.learning_rate"
    assert drawn(few, number)[name] == drawn(more, number)[name]


@given(
    share=SHARES, low=st.floats(1e-6, 1e3), width=st.floats(1e-3, 1e6), whole=st.booleans(),
    log=st.booleans(),
)  # fmt: skip
def test_a_draw_lies_between_its_bounds(
    share: Fraction, low: float, width: float, whole: bool, log: bool
) -> None:
    """Also at the ends, and whole numbers between whole bounds."""
    bounds = (low, low + width)
    if whole:
        bounds = (float(math.ceil(low)), float(math.ceil(low) + math.ceil(width)))
    draw = Draw(log_uniform=bounds) if log else Draw(uniform=bounds)
    found = value(draw, share, whole=whole)
    assert bounds[0] <= found <= bounds[1]  # type: ignore[operator]
    assert isinstance(found, int if whole else float)


@given(share=SHARES)
def test_every_choice_is_as_likely(share: Fraction) -> None:
    """The n-th of k has the n-th part of the shares."""
    assert value(BATCHES, share, whole=True) == (16, 32, 64)[math.floor(share * 3)]


def test_every_whole_number_is_drawn_the_last_too() -> None:
    """Bounds belong to the range."""
    draw = Draw(uniform=(1, 3))
    found = [value(draw, Fraction(n, 6), whole=True) for n in range(6)]
    assert found == [1, 1, 2, 2, 3, 3]


@given(seed=SEEDS, trials=st.integers(1, 9))
def test_no_two_trials_draw_the_same(seed: int, trials: int) -> None:
    """The same values again would only cost the same once more."""
    search = {"train.batch_size": BATCHES, "train.optimizer": Draw(choice=("sgd", "adam", "lion"))}
    found = different(Sweep(search=search, trials=trials, seed=seed))
    assert len(found) == trials == len({tuple(one.items()) for one in found})


def test_a_trial_is_a_complete_workflow_that_sweeps_no_more() -> None:
    """Drawn values stand where they belong; all else is the file's."""
    workflow = sweeping("train.batch_size: {choice: [32, 64]}", "  trials: 2")
    trials = planned(workflow)
    assert [trial.number for trial in trials] == [1, 2]
    assert {trial.workflow.train.batch_size for trial in trials} == {32, 64}
    expected = workflow.model_copy(update={"sweep": None, "train": trials[0].workflow.train})
    assert trials[0].workflow == expected


def test_an_option_of_the_recipe_can_be_drawn() -> None:
    """What is a whole number in the workflow stays one; a name may have dots."""
    text = """
recipe: digits_cnn
data: {options: {width: 8}}
sweep:
  trials: 3
  search: {data.options.width: {uniform: [4, 64]}, data.options.a.b: {uniform: [0, 1]}}
"""
    for trial in planned(parse(text)):
        assert isinstance(trial.workflow.data.options["width"], int)
        assert isinstance(trial.workflow.data.options["a.b"], float)


def test_all_keys_that_cannot_be_drawn_are_told_at_once() -> None:
    """Misspelt ones, groups, what counts for the whole sweep, what trials are compared by."""
    found = faults(sweeping(
        "train.lr: {choice: [1]}, scaling: {choice: [1]}, model: {choice: [a]}, "
        "limits.time_s: {choice: [1]}, early_stopping.metric: {choice: [validation_loss]}, "
        "train.epochs: {uniform: [1.5, 3]}"
    ))  # fmt: skip
    assert found == {
        "sweep.search.train.lr": "is not a key of a workflow, or is a group of keys",
        "sweep.search.scaling": "is not a key of a workflow, or is a group of keys",
        "sweep.search.model": "cannot be drawn; what can: keys of checkpoints, data, "
        "early_stopping, scaling, train",
        "sweep.search.limits.time_s": "cannot be drawn; what can: keys of checkpoints, data, "
        "early_stopping, scaling, train",
        "sweep.search.early_stopping.metric": "says what trials are compared by: it is the same "
        "for all",
        "sweep.search.train.epochs": "is a whole number; its bounds are not: 1.5, 3",
    }


def test_a_drawn_value_out_of_range_names_key_trial_and_value() -> None:
    """Before anything starts, once for all trials that have it."""
    workflow = sweeping(
        "train.epochs: {choice: [0, 2]}, train.learning_rate: {choice: [5.0, 11.0]}", "  trials: 4"
    )
    found = faults(workflow)
    assert found.keys() == {"sweep.search.train.epochs", "sweep.search.train.learning_rate"}
    assert "(and 1 more) draws 0: input should be greater" in found["sweep.search.train.epochs"]
    assert "draws 11.0: input should be less" in found["sweep.search.train.learning_rate"]


def test_a_drawn_value_of_the_wrong_type_is_refused() -> None:
    """As it would be in the file."""
    found = faults(sweeping("train.optimizer: {choice: [3]}", "  trials: 1"))
    assert "trial 1 draws 3: input should be 'adam'" in found["sweep.search.train.optimizer"]


def test_an_impossible_combination_names_the_trial_and_its_values() -> None:
    """Each value is allowed, both together are not."""
    found = faults(sweeping(
        "scaling.workers: {choice: [1]}, scaling.strategy: {choice: [fsdp2, ddp]}", "  trials: 2"
    ))  # fmt: skip
    (what,) = found.values()
    assert "draws strategy fsdp2, workers 1: scaling.strategy 'fsdp2' splits a network" in what


def test_more_trials_than_different_draws_are_refused() -> None:
    """With the number that there is."""
    found = faults(sweeping("train.batch_size: {choice: [32, 64]}", "  trials: 8"))
    assert "the search space gave 2 different ones; lower it to 2" in found["sweep.trials"]


def test_more_grace_than_epochs_is_refused() -> None:
    """ASHA would never end a trial."""
    more = "  trials: 2\n  grace_epochs: 4\ntrain: {epochs: 3}"
    found = faults(sweeping("train.batch_size: {choice: [32, 64]}", more))
    assert found == {"sweep.grace_epochs": "4 epochs, a trial has 3"}


def trials_of(*workers: int) -> tuple[Trial, ...]:
    """Trials that reserve so many CPUs each."""
    text = "recipe: digits_cnn\nscaling: {{workers: {}}}"
    return tuple(Trial(n, {}, parse(text.format(w))) for n, w in enumerate(workers, start=1))


@pytest.mark.parametrize(
    ("cpus", "count", "why"),
    [(8, 2, "2 at a time"), (4, 2, "2 at a time"), (3, 1, "1 at a time, not 2: a trial reserves")],
)
def test_trials_run_at_once_as_far_as_the_cpus_suffice(cpus: int, count: int, why: str) -> None:
    """The greatest trial decides; it is said before."""
    workflow = sweeping("train.batch_size: {choice: [32, 64]}", "  concurrent: 2")
    found, words = at_once(workflow, trials_of(1, 2, 1), cpus, 0)
    assert found == count
    assert words.startswith(why)


def test_a_trial_that_alone_needs_more_than_there_is_is_refused() -> None:
    """A sweep would wait for ever."""
    workflow = sweeping("scaling.workers: {choice: [1, 4]}")
    with pytest.raises(Refused, match="reserves up to 4 CPUs"):
        at_once(workflow, trials_of(1, 4), 3, 0)
    assert largest(trials_of(1, 4, 2)).scaling.workers == 4


def ended(number: int, loss: float, state: board.State = "finished") -> Standing:
    """A trial that has ended with a checkpoint."""
    (trial,) = trials_of(1)
    return Standing(Trial(number, {}, trial.workflow), state, "r", 3, loss, 2, "/checkpoint")


def test_the_best_trial_is_chosen_among_those_with_a_checkpoint() -> None:
    """Also one that the sweep ended; never one that failed; of equal ones the first."""
    rule = EarlyStopping()
    standings = [ended(1, 0.5), ended(2, 0.1, "failed"), ended(3, 0.4, "stopped"), ended(4, 0.4)]
    found = board.best(standings, rule)
    assert found is not None
    assert found.trial.number == 3
    assert board.best([ended(2, 0.1, "failed"), ended(5, math.nan)], rule) is None


def test_where_more_is_better_the_greatest_wins() -> None:
    """The direction is that of the watched metric."""
    rule = EarlyStopping(metric="validation_accuracy", mode="max")
    found = board.best([ended(1, 0.5), ended(2, 0.9), ended(3, 0.7)], rule)
    assert found is not None
    assert found.trial.number == 2


def test_a_trial_keeps_its_best_epoch_and_says_so_in_a_line() -> None:
    """Not the last one's value."""
    rule = EarlyStopping()
    (trial,) = trials_of(1)
    now = Standing(Trial(2, {"train.learning_rate": 0.1}, trial.workflow))
    for said in (
        {"run_id": "abc"},
        {"run_id": "abc", "epoch": 1, "validation_loss": 0.25},
        {"run_id": "abc", "epoch": 2, "validation_loss": 0.5},
        {"run_id": "abc", "epoch": 3, "validation_loss": math.nan},
    ):
        now = board.after(now, said, rule)
    assert (now.run_id, now.epoch, now.value, now.best_epoch) == ("abc", 3, 0.25, 1)
    assert board.line(now, 4, 5, rule) == (
        "  trial 2 of 4 (learning_rate 0.1): running, epoch 3/5, best validation_loss 0.2500"
    )
    failed = board.after(now, {"state": "failed", "reason": "it diverged"}, rule)
    assert (failed.state, failed.run_id) == ("failed", "abc")
    assert board.line(failed, 4, 5, rule).endswith("; it diverged")


def test_the_trials_are_shown_as_a_table() -> None:
    """A column a key."""
    workflow = sweeping(
        "train.batch_size: {choice: [64]}, train.optimizer: {choice: [adam, sgd]}", "  trials: 2"
    )
    head, *rows = trial_lines(planned(workflow))
    assert head.split() == ["trial", "train.batch_size", "train.optimizer"]
    assert sorted(row.split()[1:] for row in rows) == [["64", "adam"], ["64", "sgd"]]
