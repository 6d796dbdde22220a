"""
One network, several processes
==============================

A training that several processes share, on one machine or many: each has a part of every batch.
``torchrun`` starts them::

    torchrun --nproc-per-node 2 train_with_torchrun.py

and on each of two machines, of which one is called ``first``::

    torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint first \\
        train_with_torchrun.py
"""

import sys
from tempfile import TemporaryDirectory

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import distributed

from sklearn_protopnet import ProtoPNetClassifier, load


def main(target):
    """Train together; the first process saves the classifier that all of them have."""
    X, y = load_digits(return_X_y=True)  # all processes need the same images in the same order
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    clf = ProtoPNetClassifier(
        image_shape=(8, 8), pretraining_epochs=5, warmup_epochs=2, joint_epochs=5, random_state=0
    ).fit(X_train, y_train)
    if distributed.get_rank() == 0:
        clf.save(target)
        print(
            f"{distributed.get_world_size()} processes, {clf.n_iter_} epochs, "
            f"test accuracy {load(target).score(X_test, y_test):.3f}"
        )


if __name__ == "__main__":
    if not distributed.is_torchelastic_launched():
        sys.exit(__doc__)
    distributed.init_process_group()  # NCCL with graphics cards, else gloo
    with TemporaryDirectory() as folder:
        main(f"{folder}/digits.skops")
    distributed.destroy_process_group()
