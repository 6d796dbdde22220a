"""What each row of an explanation is about: a sample, a class, a prototype, maybe a patch.

Shapes: n samples, P prototypes, K classes, k classes explained per sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sklearn_protopnet._located_boxes import LocatedBoxes
from sklearn_protopnet._network import Evidence
from sklearn_protopnet._prototype_record import PrototypeRecord


def ranked_prototypes(
    coef: NDArray[np.float64],
    similarities: NDArray[np.float64],
    explained: NDArray[np.int64],
    top_k: int | None,
) -> NDArray[np.int64]:
    """Order prototypes by what they contribute, the largest first.

    Parameters
    ----------
    coef : float64 array of shape (K, P)
    similarities : float64 array of shape (n, P)
    explained : int64 array of shape (n, k)
        Class indices to explain.
    top_k : int or None
        How many to keep; None for all.

    Returns
    -------
    int64 array of shape (n, k, min(top_k, P))
    """
    contributions = coef[explained] * similarities[:, None, :]  # (n, k, P)
    ranked: NDArray[np.int64] = np.argsort(-contributions, axis=2, kind="stable")[:, :, :top_k]
    return ranked


class Ranked(NamedTuple):
    """Prototypes of all networks, by what they contribute to a class of a sample."""

    member: NDArray[np.int64]
    """(n, k, rows) numbers of networks."""
    prototype: NDArray[np.int64]
    """(n, k, rows) numbers of prototypes in their networks."""


@dataclass(frozen=True)
class Rows:
    """What each row of an explanation is about, of those that belong to one network."""

    place: NDArray[np.int64]
    """Where the row stands: those of all networks come in the order of these numbers."""
    sample: NDArray[np.int64]
    class_: NDArray[np.int64]
    """Class indices."""
    prototype: NDArray[np.int64]
    rank: NDArray[np.int64]
    patch: NDArray[np.int64]
    """Which of the pooled patches, 0 for the most similar one."""

    @classmethod
    def of(
        cls, explained: NDArray[np.int64], ranked: Ranked, member: int, n_patches: int = 1
    ) -> Rows:
        """Lay out rows by sample, class, rank and patch.

        Parameters
        ----------
        explained : int64 array of shape (n, k)
            Class indices to explain.
        ranked : Ranked
            The prototypes of all networks.
        member : int
            Number of the network whose rows are laid out.
        n_patches : int, default=1
            Rows of each prototype.
        """
        is_mine = ranked.member == member  # (n, k, rows)
        sample, k, rank = np.nonzero(is_mine)

        def spread(values: NDArray[np.int64]) -> NDArray[np.int64]:
            return values if n_patches == 1 else values.repeat(n_patches)

        return cls(
            place=spread(np.flatnonzero(is_mine)),
            sample=spread(sample),
            class_=spread(explained[sample, k]),
            prototype=spread(ranked.prototype[is_mine]),
            rank=spread(rank + 1),
            patch=np.tile(np.arange(n_patches), len(sample)),
        )


@dataclass(frozen=True)
class Explained:
    """What the rows of one network are made of."""

    evidence: Evidence
    """Of n images; logits are those of all networks together."""
    located: LocatedBoxes
    """(n, P, k) of the k patches that have a row each."""
    sources: PrototypeRecord
    samples: NDArray[Any]
    """(n,) names of the images."""
    rows: Rows

    @property
    def patch_similarities(self) -> NDArray[np.float64]:
        """Similarity of the patch of each row, (rows,)."""
        rows = self.rows
        return self.evidence.patch_similarities[rows.sample, rows.prototype, rows.patch]

    @property
    def shares(self) -> NDArray[np.float64]:
        """What the patch of each row adds to the similarity, (rows,).

        All of it where the others have no rows.
        """
        n_pooled = self.evidence.patch_similarities.shape[2]
        if self.located.kinds.shape[2] < n_pooled:
            return self.evidence.similarities[self.rows.sample, self.rows.prototype]
        shares: NDArray[np.float64] = self.patch_similarities / n_pooled
        return shares
