"""Solar cells: prototypes as the example has them, and plain heads on the same network.

``examples/plot_solar_cells.py`` explains the photographs and looks at what the prototypes found.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from linear_head import train
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from torchvision.transforms import v2

from sklearn_protopnet import ProtoPNetClassifier, build_backbone
from sklearn_protopnet._network import resolve_precision, working_conditions

SIDE, BATCH_SIZE = 224, 32
NETWORK = {"backbone": "efficientnet_lite0", "weights": "imagenet", "feature_stride": 16}
WARMUP_EPOCHS, JOINT_EPOCHS, RATE, BACKBONE_RATE, WEIGHT_DECAY = 4, 6, 3e-3, 3e-4, 1e-4
L1_WEIGHT = 1e-3
"""Of two classes an off-class weight is 0 only if the own one is at most the ratio of the
penalties, 1/3 with the defaults: none was. AUC is the same."""
FLIPS = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])


def classifier(seed: int, *, is_frozen: bool) -> ProtoPNetClassifier:
    """Prototypes that look at maps of 14x14 cells, as the example has them."""
    if is_frozen:
        how = {"backbone_learning_rate": 0, "joint_epochs": WARMUP_EPOCHS + JOINT_EPOCHS}
        how["warmup_epochs"] = 0
    else:
        how = {"backbone_learning_rate": BACKBONE_RATE, "joint_epochs": JOINT_EPOCHS}
        how |= {"warmup_epochs": WARMUP_EPOCHS, "augment": FLIPS}
    return ProtoPNetClassifier(
        **NETWORK,
        image_size=(SIDE, SIDE),
        prototype_depth=64,
        similarity="cosine",
        learning_rate=RATE,
        weight_decay=WEIGHT_DECAY,
        l1_weight=L1_WEIGHT,
        batch_size=BATCH_SIZE,
        random_state=seed,
        **how,
    )


def standardized(images: NDArray[np.uint8]) -> Tensor:
    """Images as the published weights expect them, float32 (n, 1, SIDE, SIDE)."""
    resized = v2.functional.resize(torch.from_numpy(images)[:, None], [SIDE, SIDE])
    return (resized.float() - 127) / 128


def mean_and_maximum(maps: Tensor) -> Tensor:
    """Pool maps (n, F, H, W) to (n, 2 F)."""
    return torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)


def new_backbone() -> nn.Module:
    """Build the network as it comes; ``eval()`` keeps the statistics of its normalisation."""
    return build_backbone(channels=1, **NETWORK).eval().to(memory_format=torch.channels_last)


def regression_on_features(X: NDArray[np.uint8], y: NDArray[np.int64]) -> Any:
    """Logistic regression on the pooled map of the frozen network.

    Of C from 1e-4 to 1, 0.01 has the best mean over the tests of five splits: 0.8967, with 0.8942
    at 0.003 and 0.8940 at 0.03.
    """
    backbone = new_backbone()
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))

    def features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        batches = standardized(images).split(BATCH_SIZE)
        with working_conditions(tiny=False), torch.no_grad():
            return torch.cat([mean_and_maximum(backbone(batch)) for batch in batches]).numpy()

    regression.fit(features(X), y)
    return lambda images: regression.decision_function(features(images))


def fine_tuned_head(X: NDArray[np.uint8], y: NDArray[np.int64], seed: int) -> Any:
    """Fine-tune the network with a linear head on its pooled map, as long as the prototypes.

    The same epochs, rates, batches, flips and precision; rates go down along a cosine.
    """
    torch.manual_seed(seed)
    backbone, head = new_backbone(), nn.Linear(2 * 112, 1)

    def logits_of(images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        return head(mean_and_maximum(backbone(images)))[:, 0]

    inputs, targets = standardized(X), torch.from_numpy(y).float()
    with working_conditions(tiny=False):
        for epochs, rate in ((WARMUP_EPOCHS, 0.0), (JOINT_EPOCHS, BACKBONE_RATE)):
            backbone.requires_grad_(rate > 0)
            groups = [{"params": head.parameters(), "lr": RATE}]
            if rate:
                groups.append({"params": backbone.parameters(), "lr": rate})
            train(
                logits_of,
                lambda batch: torch.stack([FLIPS(image) for image in inputs[batch]]),
                targets,
                torch.optim.Adam(groups, weight_decay=WEIGHT_DECAY),
                n_epochs=epochs,
                batch_size=BATCH_SIZE,
                precision=resolve_precision("auto", torch.device("cpu"), is_small=False),
                loss_of=nn.functional.binary_cross_entropy_with_logits,
            )

    @torch.no_grad()
    def decide(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return torch.cat([logits_of(b) for b in standardized(images).split(BATCH_SIZE)]).numpy()

    return decide
