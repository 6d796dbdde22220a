"""Many fits in one process, and many threads on one classifier.

``python benchmarks/soak.py`` fits and predicts 1,000 times and watches the memory; then eight
threads ask one classifier for tables while a ninth refits it, and edits and trains on copies.
``--parts`` does one of the two; ``--quick`` is a smoke run that writes nothing.
"""

from __future__ import annotations

import argparse
import gc
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from common import publish, resident_memory
from sklearn.datasets import load_digits

from sklearn_protopnet import ProtoPNetClassifier
from sklearn_protopnet.editing import PrototypeEditor

N_FITS, N_BEFORE = 1_000, 100
N_THREADS, N_REFITS = 8, 100
PARTS = ("memory", "threads")
SETTINGS: dict[str, Any] = {
    "image_shape": (8, 8),
    "n_prototypes_per_class": 2,
    "prototype_depth": 16,
    "pretraining_epochs": 1,
    "warmup_epochs": 1,
    "joint_epochs": 1,
    "random_state": 0,
}


def watch_memory(n_fits: int, n_before: int) -> list[str]:
    """Fit, predict and explain over and over; resident memory on the way."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:120], y[:120]
    memory = {}
    for number in range(1, n_fits + 1):
        clf = ProtoPNetClassifier(**{**SETTINGS, "random_state": number}).fit(X, y)
        clf.predict(X)
        clf.explain(X[:5])
        if number in {n_before, n_fits // 2, n_fits}:
            gc.collect()
            memory[number] = resident_memory("VmRSS")
            print(number, f"{memory[number]:.0f} MB", flush=True)
    return [f"| resident memory after {n:,} fits | {found:.0f} MB |" for n, found in memory.items()]


def tables_add_up(clf: ProtoPNetClassifier, X: Any) -> bool:
    """Tell whether contributions add up to the logits that stand beside them."""
    table = clf.explain(X, classes="all")
    sums = table.groupby(["sample", "class"])["contribution"].sum()
    logits = table.groupby(["sample", "class"])["logit"].first()
    return bool(np.allclose(sums, logits, rtol=1e-9, atol=1e-9))


def share_out(n_threads: int, n_refits: int) -> list[str]:
    """Let threads explain while another one refits the last layer, and changes copies."""
    X, y = load_digits(return_X_y=True)
    X, y = X[:120], y[:120]
    clf = ProtoPNetClassifier(**SETTINGS).fit(X, y)
    is_over = threading.Event()

    def ask() -> list[bool]:
        answers = []
        while not is_over.is_set():
            answers.append(tables_add_up(clf, X[:10]))
        return answers

    with ThreadPoolExecutor(n_threads) as pool:
        asking = [pool.submit(ask) for _ in range(n_threads)]
        try:
            for number in range(n_refits):
                clf.refit_last_layer(X, y, l1_weight=10.0 ** -(2 + number % 4))
                edited = (
                    PrototypeEditor(clf, X, y).forbid(number % len(clf.prototypes_)).classifier_
                )
                edited.set_params(warm_start=True).fit(X, y)
        finally:
            is_over.set()
        found = [answer for each in asking for answer in each.result()]
    return [
        f"| tables that {n_threads} threads asked for while a ninth refitted the last layer, and "
        f"edited and trained on a copy, {n_refits} times: that add up | {sum(found):,} of "
        f"{len(found):,} |"
    ]


def main(parts: Sequence[str], *, is_quick: bool) -> None:
    """Measure both."""
    n_fits, n_before, n_threads, n_refits = (
        (20, 5, 2, 3) if is_quick else (N_FITS, N_BEFORE, N_THREADS, N_REFITS)
    )
    head = ["120 digits, 20 prototypes, three epochs.", "", "| what | found |", "|---|---|"]
    if "memory" in parts:
        lines = [*head, *watch_memory(n_fits, n_before)]
        publish("Many fits in one process", lines, is_quick=is_quick)
    if "threads" in parts:
        lines = [*head, *share_out(n_threads, n_refits)]
        publish("Many threads on one classifier", lines, is_quick=is_quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    main(given.parts, is_quick=given.quick)
