"""The benchmarks' arithmetic, and what the README says of their figures."""

import importlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def price():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        yield importlib.import_module("price")


@pytest.fixture(scope="module")
def alternatives(price):
    return importlib.import_module("alternatives")


@pytest.fixture(scope="module")
def rows(price):
    """What was measured, but for other splits."""
    table = pd.read_csv(price.ROWS)
    return table[table["seed"] < price.FRESH]


def test_a_mean_has_the_standard_error_of_nadeau_and_bengio(price):
    differences = pd.Series([1.0, 2.0, 3.0])  # with a standard deviation of 1
    independent, overlapping = price.PROBLEMS["fashion_3k"], price.PROBLEMS["digits"]
    error = np.sqrt(1 / 3)
    assert price.mean_of(differences, independent) == f"+2.00 ± {error:.2f}"
    error = np.sqrt(1 / 3 + 1 / 3)
    assert price.mean_of(differences, overlapping) == f"+2.00 ± {error:.2f}"
    assert price.mean_of(differences[:2], overlapping) == "+1.50"
    assert price.mean_of(-differences / 1000, independent).startswith("+0.00")


def test_times_are_added_up_by_ratios_on_the_same_seed(price):
    medians = pd.DataFrame({"seconds": [10.0, 100.0], "ratio": [2.0, 0.5]})
    assert price.time_ratio(medians) == 110 / (5 + 200)


def test_a_change_is_compared_with_the_defaults_on_its_own_processor(alternatives):
    def row(change, seed, score, processor):
        return [change, "fashion_3k", seed, score, score, score, processor]

    change = "one patch of an image, as in the paper"
    rows = [
        row(alternatives.DEFAULTS, 0, 0.80, "one"),
        row(alternatives.DEFAULTS, 0, 0.90, "another"),
        row(alternatives.DEFAULTS, 1, 0.95, "one"),
        row(change, 0, 0.91, "another"),
        row(change, 1, 0.98, "one"),
    ]
    table = alternatives.table(pd.DataFrame(rows, columns=alternatives.COLUMNS))
    assert table["change"].tolist() == [alternatives.DEFAULTS, change]
    assert table["fashion_3k"].tolist() == ["0.9000 (2)", "+2.00 (2)"]  # of seeds 0 and 1
    assert table["zeros"].tolist() == ["90%", "+2"]
    assert table["consistent"].str.endswith("(2)").all()


def test_every_change_was_measured_once(alternatives):
    rows = pd.read_csv(alternatives.ROWS)
    assert not rows.duplicated(["change", *alternatives.PAIR]).any()
    assert set(rows["change"]) <= set(alternatives.CHANGES)


def test_the_user_guide_shows_what_was_measured(price, alternatives, rows):
    times = price.times(rows)
    assert times["images"].nunique() < len(times) <= len(price.PROBLEMS)  # Fashion-MNIST is twice
    for page, table in [
        (price.PAGE, times),
        (alternatives.PAGE, alternatives.table(pd.read_csv(alternatives.ROWS))),
    ]:
        shown = pd.read_csv(page, dtype=str, keep_default_na=False)
        pd.testing.assert_frame_equal(shown, table, check_dtype=False)


def test_every_linear_head_has_the_best_rate_that_was_found(price):
    found = pd.read_csv(price.ROWS.with_name("rates.csv")).set_index(["set", "rate"])["accuracy"]
    for name in found.index.unique("set").difference(["digits"]):  # whose rate has ten splits
        accuracies = found[name]
        assert set(accuracies.index) == set(price.RATES), name
        assert accuracies[price.PROBLEMS[name].head_rate] == accuracies.max(), name


def test_a_journal_measures_nothing_twice(price, tmp_path):
    def journal():
        return price.Journal(tmp_path / "rows.csv", ["set", "seed", "score"], ("set", "seed"), {})

    first, second = journal(), journal()
    first.add({"set": "digits", "seed": 0, "score": 0.5})
    second.add({"set": "digits", "seed": 1, "score": 0.25})
    assert ("digits", 0) in first
    assert ("digits", 1) not in first
    assert ("digits", 1) in journal()
    assert first.table()["score"].tolist() == [0.5, 0.25]


def test_the_readmes_table_has_what_was_measured(price, rows):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    after = text.partition("| images | seeds | test accuracy |")[2].splitlines()[2:]
    lines = [line for line in after[: after.index("")] if line.startswith("|")]
    names = [name for name in price.PROBLEMS if not name.startswith("solar")]
    for line, name in zip(lines, names, strict=True):
        title, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        of_set = rows[rows["set"] == name]
        mean = of_set.mean(numeric_only=True)
        prices = price.mean_of(100 * (of_set["linear"] - of_set["score"]), price.PROBLEMS[name])
        assert f"{mean['n_train']:,.0f} for training" in title
        assert cells == [
            str(len(of_set)),
            f"{mean['score']:.3f}",
            f"{mean['linear']:.3f}",
            re.sub(r"^\+| ± 0\.00$", "", prices),
            f"{mean['zeros']:.0%}".replace("%", " %"),
            f"{mean['area']:.0%}".replace("%", " %"),
        ]
