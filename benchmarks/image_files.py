"""Images on disk: peak memory and time of fit and predict for 1,000, 10,000 and 60,000 files.

``python benchmarks/image_files.py`` measures and writes results.md; ``--quick`` is a smoke run
with few files that writes nothing. Every size runs in a process of its own, and memory is that of
the process and of all processes that it starts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from common import PeakMemory, in_a_process, load_fashion_mnist, publish
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image

from sklearn_protopnet import ProtoPNetClassifier

SIZES = (1_000, 10_000, 60_000)
QUICK_SIZES = (200, 400)
SIDE = 128
"""Pixels a side of the files."""
N_JOBS = 2


def write_files(folder: Path, n_files: int) -> None:
    """Write the first training images as JPEG files, enlarged, and their labels beside them."""
    X, y, *_ = load_fashion_mnist()
    blocks = np.array_split(np.arange(n_files), max(1, n_files // 1_000))
    Parallel(N_JOBS)(delayed(write_block)(folder, rows, X[rows]) for rows in blocks)
    np.save(folder / "labels.npy", y[:n_files])


def write_block(folder: Path, rows: NDArray[np.int64], images: NDArray[np.uint8]) -> None:
    """Write some of them."""
    for row, image in zip(rows, images, strict=True):
        large = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        large.convert("RGB").save(folder / f"{row:05}.jpg", quality=90)


def measure(folder: Path, n_files: int) -> None:
    """Fit and predict on so many files; print seconds and peak memory as JSON."""
    paths = [str(folder / f"{row:05}.jpg") for row in range(n_files)]
    y = np.load(folder / "labels.npy")[:n_files]
    clf = ProtoPNetClassifier(
        image_size=(28, 28),
        pretraining_epochs=0,
        warmup_epochs=1,
        joint_epochs=1,
        n_jobs=N_JOBS,
        random_state=0,
    )
    figures: dict[str, float] = {"n_files": n_files}
    for name, call in (("fit", lambda: clf.fit(paths, y)), ("predict", lambda: clf.predict(paths))):
        start = time.perf_counter()
        with PeakMemory() as memory:
            call()
        figures[f"{name}_s"] = time.perf_counter() - start
        figures[f"{name}_mb"] = memory.peak
    print(json.dumps(figures))


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
        rows = [in_a_process(__file__, "--folder", name, "--measure", n_files) for n_files in sizes]
    peaks = [max(row["fit_mb"], row["predict_mb"]) for row in rows]
    decoded = 3 * SIDE**2 * (sizes[-1] - sizes[0]) / 1e6
    lines = [
        f"JPEG files of {SIDE}x{SIDE} pixels in three channels, read by {N_JOBS} processes and "
        "resized to 28x28; the default backbone, one epoch each of warm-up and joint training; "
        "then a prediction for all of them in the same process. Memory is resident, of all "
        "processes, without what they share with files.",
        "",
        "| files | fit, s | peak of fit, MB | predict, s | peak of predict, MB |",
        "|---|---|---|---|---|",
        *(
            f"| {row['n_files']:,} | {row['fit_s']:.0f} | {row['fit_mb']:.0f} | "
            f"{row['predict_s']:.1f} | {row['predict_mb']:.0f} |"
            for row in rows
        ),
        "",
        f"Growth of the peak from {sizes[0]:,} to {sizes[-1]:,} files: "
        f"{peaks[-1] - peaks[0]:.0f} MB; decoded, the files between them have {decoded:,.0f} MB.",
    ]
    publish("Images on disk (Fashion-MNIST as JPEG files)", lines, is_quick=options.quick)


if __name__ == "__main__":
    main()
