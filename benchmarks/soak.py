"""Many fits in one process, and many threads on one classifier.

``python benchmarks/soak.py`` fits and predicts 1,000 times and watches the memory; then eight
threads ask one classifier for tables while a ninth refits it. ``--quick`` is a smoke run that
writes nothing.
"""

from __future__ import annotations

import argparse
import copy
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from common import publish, resident_memory
from sklearn.datasets import load_digits

from sklearn_protopnet import ProtoPNetClassifier

N_FITS, N_BEFORE = 1_000, 100
N_THREADS, N_REFITS = 8, 100
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
    """Let threads explain while another one refits the last layer and copies."""
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
                copy.deepcopy(clf).set_params(warm_start=True).fit(X, y)
        finally:
            is_over.set()
        found = [answer for each in asking for answer in each.result()]
    return [
        f"| tables that {n_threads} threads asked for while a ninth refitted the last layer, and "
        f"trained copies on, {n_refits} times: that add up | {sum(found):,} of {len(found):,} |"
    ]


def main(*, is_quick: bool) -> None:
    """Measure both."""
    sizes = (20, 5, 2, 3) if is_quick else (N_FITS, N_BEFORE, N_THREADS, N_REFITS)
    n_fits, n_before, n_threads, n_refits = sizes
    lines = [
        "120 digits, 20 prototypes, three epochs.",
        "",
        "| what | found |",
        "|---|---|",
        *watch_memory(n_fits, n_before),
        *share_out(n_threads, n_refits),
    ]
    publish("Many fits in one process", lines, is_quick=is_quick)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    main(is_quick=parser.parse_args().quick)
