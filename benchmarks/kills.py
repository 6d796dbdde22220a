"""Kill trainings at random moments, damage checkpoints, and compare what comes of them.

``python benchmarks/kills.py`` kills 100 fits (SIGKILL) that images in memory or in files, one or
two reading processes, rounds, augmentation and early stopping differ in, goes on with each, and
counts those that end with other bits than a fit that ran through. Then it flips or cuts the
checkpoints of 50. ``--parts`` does one of the two; ``--quick`` is a smoke run that writes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import multiprocessing
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from common import publish
from joblib.externals.loky import get_reusable_executor
from PIL import Image
from sklearn.datasets import load_digits

from sklearn_protopnet import ProtoPNetClassifier

POLL_SECONDS = 0.01
CONTEXT = multiprocessing.get_context("forkserver")
SETTINGS: dict[str, Any] = {
    "n_prototypes_per_class": 3,
    "prototype_depth": 32,
    "pretraining_epochs": 5,
    "warmup_epochs": 3,
    "joint_epochs": 6,
    "checkpoint_interval": 0.0,
    "random_state": 0,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "one round": {},
    "three rounds": {"projection_interval": 2},
    "augmented": {"augment": "no_flip"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2},
}


FITS = (
    "200 digits of 8x8 pixels, 14 epochs; images in memory and in files, one and two reading "
    f"processes, and {', '.join(VARIANTS)}, in turn."
)


def images(kind: str, folder: Path) -> tuple[Any, Any]:
    """Give 200 digits in memory, or as files."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:200].reshape(-1, 8, 8).astype(np.uint8), y[:200]
    if kind == "arrays":
        return X, y
    paths = [folder / f"{row}.png" for row in range(len(X))]
    for path, pixels in zip(paths, X, strict=True):
        if not path.exists():
            Image.fromarray(pixels).save(path)
    return [str(path) for path in paths], y


def files_in(states: Path) -> list[Path]:
    """List the checkpoints in a folder, if there is one: the newest first."""
    return sorted(path for path in states.glob("*") if not path.name.startswith("."))


def digest(clf: ProtoPNetClassifier) -> str:
    """Digest all that a fit has found, but for times."""
    found = hashlib.sha256(np.array(clf.loss_curve_).tobytes())
    parts = [clf.coef_, clf.prototypes_, clf.prototype_sample_indices_, clf.prototype_boxes_]
    for array in (*parts, *clf.state_["network"].values(), *clf.state_["linear_head"].values()):
        found.update(np.ascontiguousarray(array).tobytes())
    found.update(clf.history_table().drop(columns="seconds").to_csv().encode())
    return found.hexdigest()


def fit(case: tuple[str, str, int], folder: Path, states: Path | None, results: Any) -> None:
    """Fit in a process of its own: say when it begins, then the digest, time and warnings."""
    kind, variant, n_jobs = case
    X, y = images(kind, folder)
    settings = {**SETTINGS, **VARIANTS[variant], "n_jobs": n_jobs, "checkpoint": states}
    results.put("begun")
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clf = ProtoPNetClassifier(**settings).fit(X, y)
    seconds = time.perf_counter() - start
    results.put((digest(clf), seconds, [str(each.message) for each in caught]))
    get_reusable_executor().shutdown()  # or joblib's processes would hold up the end for 300 s


class Fit:
    """A fit in a process of its own."""

    def __init__(self, case: tuple[str, str, int], folder: Path, states: Path | None) -> None:
        self.results = CONTEXT.SimpleQueue()
        arguments = case, folder, states, self.results
        self.process = CONTEXT.Process(target=fit, args=arguments)
        self.process.start()
        self.results.get()  # it has begun

    def end(self) -> tuple[str, float, list[str]]:
        """Wait for it; its digest, seconds and warnings."""
        found: tuple[str, float, list[str]] = self.results.get()
        self.process.join()
        return found

    def kill(self, after: float) -> bool:
        """Kill it after so many seconds; whether it was still running."""
        time.sleep(after)
        self.process.kill()
        self.process.join()
        return self.process.exitcode != 0


def cases() -> Iterator[tuple[str, str, int]]:
    """Go through all combinations, over and over."""
    return itertools.cycle(itertools.product(("arrays", "files"), VARIANTS, (1, 2)))


def kill_fits(n_kills: int, folder: Path, wholes: dict[Any, Any]) -> list[str]:
    """Kill fits at random moments, and go on with each."""
    draws = np.random.default_rng(0)
    counts: Counter[str] = Counter()
    for number, case in zip(range(n_kills), cases(), strict=False):
        states = folder / f"killed {number}"
        expected, seconds, _ = wholes[case]
        while not Fit(case, folder, states).kill(float(draws.uniform(0, seconds))):
            counts["had ended before, and were fitted again"] += 1
        counts["killed while they ran"] += 1
        counts["had left a checkpoint"] += bool(files_in(states))
        found, _, caught = Fit(case, folder, states).end()
        counts["ended with the same bits"] += found == expected
        counts["with a warning"] += bool(caught)
        counts["left a checkpoint"] += bool(files_in(states))
        print(number, case, dict(counts), flush=True)
    return [
        f"{FITS} A fit is killed (SIGKILL) after a time drawn from its own length, and a new "
        "process goes on.",
        "",
        f"| of {n_kills} | fits |",
        "|---|---|",
        *(
            f"| {what} | {counts[what]} |"
            for what in (
                "killed while they ran",
                "had ended before, and were fitted again",
                "had left a checkpoint",
                "ended with the same bits",
                "with a warning",
                "left a checkpoint",
            )
        ),
    ]


def damage(n_damaged: int, folder: Path, wholes: dict[Any, Any]) -> list[str]:
    """Flip a bit of checkpoints, or cut them, one or both of the two, and go on with each."""
    draws = np.random.default_rng(1)
    counts: Counter[str] = Counter()
    for number, case in zip(range(n_damaged), cases(), strict=False):
        states = folder / f"damaged {number}"
        expected, seconds, _ = wholes[case]
        files: list[Path] = []
        while len(files) < 2:  # a fit that has ended has none
            begun = Fit(case, folder, states)
            while begun.process.is_alive() and len(files_in(states)) < 2:
                time.sleep(POLL_SECONDS)
            begun.kill(float(draws.uniform(0, 0.05)) * seconds)
            files = files_in(states)
        for path in files[: 1 + number % 2]:
            data = bytearray(path.read_bytes())
            if draws.random() < 0.5:
                data[draws.integers(len(data))] ^= 1 << int(draws.integers(8))
            else:
                del data[draws.integers(len(data)) :]
            path.write_bytes(data)
            counts["damaged"] += 1
        found, _, caught = Fit(case, folder, states).end()
        counts["same"] += found == expected
        counts["named"] += sum(str(path) in " ".join(caught) for path in files[: 1 + number % 2])
        print(number, case, dict(counts), flush=True)
    return [
        f"{FITS} When a fit has left two checkpoints it is killed, a bit of one or both is "
        "flipped or their ends are cut off, and a new process goes on.",
        "",
        f"* Fits with the same bits: {counts['same']} of {n_damaged}.",
        f"* Damaged files that a warning names: {counts['named']} of {counts['damaged']}.",
    ]


PARTS: dict[str, tuple[str, Callable[[int, Path, dict[Any, Any]], list[str]], int]] = {
    "kills": ("Kills", kill_fits, 100),
    "damage": ("Damaged checkpoints", damage, 50),
}
"""Title, function and how many fits."""


def main(parts: Sequence[str], *, is_quick: bool) -> None:
    """Kill and damage."""
    CONTEXT.set_forkserver_preload(["sklearn_protopnet"])
    with TemporaryDirectory() as name:
        folder = Path(name)
        known = itertools.islice(cases(), 3 if is_quick else 16)
        wholes = {case: Fit(case, folder, None).end() for case in known}
        for part in parts:
            title, measure, n_fits = PARTS[part]
            publish(title, measure(3 if is_quick else n_fits, folder, wholes), is_quick=is_quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    main(given.parts, is_quick=given.quick)
