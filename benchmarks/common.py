"""What the benchmarks share: data, the baseline, and how results are written down."""

from __future__ import annotations

import gzip
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import sklearn
import torch
from linear_head import train as train_head
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import sklearn_protopnet
from sklearn_protopnet import ProtoPNetClassifier, build_backbone
from sklearn_protopnet._fitted import fitted_network
from sklearn_protopnet._images import ArrayImages, ImageSource, Standardization
from sklearn_protopnet._network import PRECISIONS, resolve_precision, working_conditions
from sklearn_protopnet._training import usual_pretraining

RESULTS = Path(__file__).with_name("results.md")
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts the IDX files."""


def load_idx(name: str) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, packed or not."""
    plain = FASHION_MNIST / name
    packed = plain.with_name(f"{name}.gz")
    if not plain.exists() and not packed.exists():
        raise FileNotFoundError(
            f"Fashion-MNIST must be installed (Debian: dataset-fashion-mnist), found no {plain}."
        )
    data = plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())
    n_axes = data[3]
    shape = np.frombuffer(data, ">i4", count=n_axes, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * n_axes).reshape(shape)


def load_fashion_mnist() -> tuple[NDArray[np.uint8], ...]:
    """Training images and labels, test images and labels."""
    return tuple(
        load_idx(f"{part}-{kind}-ubyte")
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    )


def split_digits(seed: int) -> list[NDArray[Any]]:
    """Rows and labels of the digits for training and for the test, stratified 75/25."""
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, stratify=y, random_state=seed)
    return [X, y, X_test, y_test]


def zeros_off_class(clf: ProtoPNetClassifier) -> float:
    """Share of the weights between classes and other classes' prototypes that are exactly 0."""
    off_class = clf.classes_[:, None] != clf.prototype_classes_
    return float(np.mean(clf.coef_[off_class] == 0))


def median_box(clf: ProtoPNetClassifier, image_size: tuple[int, ...]) -> float:
    """Median area of the prototypes' boxes, of that of an image of this height and width."""
    y0, y1, x0, x1 = clf.prototype_boxes_.T
    return float(np.median((y1 - y0) * (x1 - x0)) / np.prod(image_size))


def load_solar_cells() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Photographs of solar cells (n, 300, 300), and whether each is defective.

    Experts were unsure of cells with a defect probability of 1/3 and 2/3; 2/3 counts as
    defective here, 1/3 does not.
    """
    from elpv_dataset.utils import load_dataset

    images, probability, _ = load_dataset()
    return images, (probability > 0.5).astype(np.int64)


def precision_of(clf: ProtoPNetClassifier) -> str:
    """Name the precision of a fitted classifier's training steps."""
    is_small = fitted_network(clf).architecture.is_small
    found = resolve_precision(clf.precision, torch.device("cpu"), is_small=is_small)
    return str(found).removeprefix("torch.")


def linear_head_accuracy(
    like: ProtoPNetClassifier,
    train: tuple[NDArray[Any], NDArray[Any]],
    test: tuple[NDArray[Any], NDArray[Any]],
    *,
    rate: float,
    n_epochs: int | None = None,
) -> tuple[float, float]:
    """Train a fitted classifier's backbone with average pooling and a linear head, as long.

    The same number of epochs, all of which train the whole network; weight decay, batch size and
    precision are those of the classifier. The rate goes down along a cosine.

    Returns
    -------
    accuracy, seconds : float
        Of the processor.
    """
    start = time.process_time()
    pixels, n_epochs = _with_channels(train[0]), n_epochs or like.n_iter_
    labels = torch.from_numpy(np.searchsorted(like.classes_, train[1]))
    images, rows = ArrayImages(pixels), np.arange(len(pixels))
    standard = Standardization.of(images.survey, rows, np.ones(len(rows)))
    source = ImageSource(images, standard)
    torch.manual_seed(like.random_state)
    backbone = build_backbone(like.backbone, channels=pixels.shape[3], image_size=pixels.shape[1:3])
    depth = backbone(source.batch(rows[:2])).shape[1]
    network = nn.Sequential(
        backbone, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(depth, len(like.classes_))
    ).to(memory_format=torch.channels_last)  # as a classifier's network
    optimizer = torch.optim.Adam(network.parameters(), lr=rate, weight_decay=like.weight_decay)
    with working_conditions(tiny=fitted_network(like).architecture.is_tiny):
        train_head(
            network.train(),
            lambda batch: source.batch(batch.numpy()),
            labels,
            optimizer,
            n_epochs=n_epochs,
            batch_size=like.batch_size,
            precision=PRECISIONS[precision_of(like)],
        )
    seconds = time.process_time() - start
    network.eval()
    held_out = ImageSource(ArrayImages(_with_channels(test[0])), standard)
    with torch.no_grad():
        predicted = np.concatenate(
            [
                network(images)[: len(index)].argmax(1).numpy()
                for index, images in held_out.chunks(np.arange(len(held_out)))
            ]
        )
    return float((like.classes_[predicted] == test[1]).mean()), seconds


def usual_epochs(clf: ProtoPNetClassifier, n_images: int) -> int:
    """Count the epochs of a fit with the usual pretraining."""
    pretraining: int = usual_pretraining(n_images, clf.batch_size)
    return pretraining + clf.warmup_epochs + clf.joint_epochs


def _with_channels(images: NDArray[Any]) -> NDArray[Any]:
    return images if images.ndim == 4 else images[..., None]


def in_a_process(script: str, *arguments: object) -> dict[str, float]:
    """Run a script in a fresh process, and read the JSON that it prints."""
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def processor() -> str:
    """Name the processor, by which kinds of training round differently."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def machine() -> str:
    """Describe what the figures were measured on."""
    return (
        f"{processor()}, torch on {torch.get_num_threads()} threads; "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}, "
        f"sklearn-protopnet {sklearn_protopnet.__version__}"
    )


def resident_memory(field: str, process: int | str = "self") -> float:
    """Resident memory of a process in MB (Linux), 0 if it has ended.

    ``VmRSS`` of now, ``VmHWM`` the largest, ``RssAnon`` of now without what is shared with files.
    Not `getrusage`, whose peak is the parent's where that was larger.
    """
    found = _text_of(Path(f"/proc/{process}/status")).partition(f"{field}:")[2].split()
    return int(found[0]) / 1e3 if found else 0.0


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process has ended
        return ""


def forget_peak_memory() -> None:
    """Begin ``VmHWM`` anew: imports take more memory than they keep."""
    Path("/proc/self/clear_refs").write_text("5")


class PeakMemory:
    """Watches the resident memory of this process and of all that it starts, in MB (Linux).

    Pages that are shared with files, such as those of libraries, are left out.
    """

    INTERVAL = 0.05
    """Seconds between two looks."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            family = _family(os.getpid())
            now = sum(resident_memory("RssAnon", process) for process in family)
            self.peak = max(self.peak, now)
            self._done.wait(self.INTERVAL)


def _family(process: int) -> Iterator[int]:
    """Yield a process and all that have come from it."""
    yield process
    for thread in Path(f"/proc/{process}/task").glob("*"):
        for child in _text_of(thread / "children").split():
            yield from _family(int(child))


class Journal:
    """Rows of a measurement that takes days: what a file has is not measured again.

    Several processes may add rows, each of what the others do not measure.

    Parameters
    ----------
    path : Path or None
        A CSV file; with None the rows are kept in memory, for a smoke run.
    columns : sequence of str
    keys : sequence of str
        The columns that say what a row is of.
    places : dict of str to int
        Decimals that are kept.
    """

    def __init__(
        self,
        path: Path | None,
        columns: Sequence[str],
        keys: Sequence[str],
        places: dict[str, int],
    ) -> None:
        self.path, self.columns, self.keys = path, list(columns), list(keys)
        self.places = places
        self.rows = pd.DataFrame(columns=self.columns)
        if path is not None and path.exists():
            self.rows = pd.read_csv(path)

    def __contains__(self, key: tuple[Hashable, ...]) -> bool:
        return key in set(self.rows[self.keys].itertuples(index=False, name=None))

    def add(self, row: dict[str, Any]) -> None:
        """Print a row, and append it to the file."""
        print(row, flush=True)
        added = pd.DataFrame([row], columns=self.columns).round(self.places)
        self.rows = added if self.rows.empty else pd.concat([self.rows, added], ignore_index=True)
        if self.path is not None:
            added.to_csv(self.path, mode="a", header=not self.path.exists(), index=False)

    def table(self) -> pd.DataFrame:
        """Give all rows, those of other processes too."""
        return self.rows if self.path is None else pd.read_csv(self.path)


def publish(
    title: str, lines: list[str], *, is_quick: bool, is_of_this_machine: bool = True
) -> None:
    """Print a result, and put it into results.md in place of the last one of its title.

    That of a smoke run is printed only.
    """
    where = [f"Machine: {machine()}.", ""] if is_of_this_machine else []
    section = "\n".join([f"## {title}", "", *where, *lines, ""])
    print(section)
    if is_quick:
        return
    text = RESULTS.read_text() if RESULTS.exists() else "# Results\n\n"
    before, _, rest = text.partition(f"## {title}\n")
    _, mark, after = rest.partition("\n## ")
    RESULTS.write_text(f"{before.rstrip()}\n\n{section}{mark}{after}".rstrip() + "\n")
