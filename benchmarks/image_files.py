"""Images on disk: peak memory and time of fit and predict for 1,000, 10,000 and 60,000 files.

``python benchmarks/image_files.py`` measures and writes results.md; ``--quick`` is a smoke run
with few files that writes nothing. Every size runs in a process of its own, whose peak
resident memory the operating system keeps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from common import forget_peak_memory, load_fashion_mnist, publish, resident_memory
from PIL import Image

from sklearn_protopnet import ProtoPNetClassifier

SIZES = (1_000, 10_000, 60_000)
QUICK_SIZES = (200, 400)


def write_files(folder: Path, n_files: int) -> None:
    """Write the first training images as PNG files, and their labels beside them."""
    X, y, *_ = load_fashion_mnist()
    for row, image in enumerate(X[:n_files]):
        Image.fromarray(image).save(folder / f"{row:05}.png")
    np.save(folder / "labels.npy", y[:n_files])


def measure(folder: Path, n_files: int) -> None:
    """Fit and predict on so many files; print seconds and peak memory as JSON."""
    paths = [str(folder / f"{row:05}.png") for row in range(n_files)]
    y = np.load(folder / "labels.npy")[:n_files]
    clf = ProtoPNetClassifier(pretraining_epochs=1, warmup_epochs=1, joint_epochs=1, random_state=0)
    figures: dict[str, float] = {"n_files": n_files}
    forget_peak_memory()
    for name, call in (("fit", lambda: clf.fit(paths, y)), ("predict", lambda: clf.predict(paths))):
        start = time.perf_counter()
        call()
        figures[f"{name}_s"] = time.perf_counter() - start
        figures[f"{name}_mb"] = resident_memory("VmHWM")
    print(json.dumps(figures))


def in_a_process(folder: Path, n_files: int) -> dict[str, float]:
    """Measure in a fresh process."""
    command = [sys.executable, __file__, "--folder", str(folder), "--measure", str(n_files)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(printed)
    return figures


def main() -> None:
    """Measure every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--measure", type=int)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.measure:
        measure(options.folder, options.measure)
        return
    sizes = QUICK_SIZES if options.quick else SIZES
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name), max(sizes))
        rows = [in_a_process(Path(name), n_files) for n_files in sizes]
    growth = rows[-1]["predict_mb"] - rows[0]["predict_mb"]
    lines = [
        "PNG files of 28x28 pixels, the default backbone, one epoch each of pretraining, warm-up "
        "and joint training; then a prediction for all of them in the same process.",
        "",
        "| files | fit, s | peak after fit, MB | predict, s | peak after predict, MB |",
        "|---|---|---|---|---|",
        *(
            f"| {row['n_files']:,} | {row['fit_s']:.0f} | {row['fit_mb']:.0f} | "
            f"{row['predict_s']:.1f} | {row['predict_mb']:.0f} |"
            for row in rows
        ),
        "",
        f"Growth of the peak from {sizes[0]:,} to {sizes[-1]:,} files: {growth:.0f} MB.",
    ]
    title = "Images on disk (Fashion-MNIST as PNG files)"
    publish(title, lines, is_quick=options.quick)


if __name__ == "__main__":
    main()
