"""Images with known parts, and the same images with one thing changed.

Shapes: n images of S x S pixels, P parts with V variants each, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch, check_random_state

from sklearn_protopnet._compat import Interval, StrOptions, validate_params
from sklearn_protopnet.datasets._part_drawing import (
    CUES,
    PartImageParams,
    part_place,
    render,
)
from sklearn_protopnet.datasets._part_sampling import draw_codes, draw_params


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_classes": [Interval(Integral, 2, None, closed="left")],
        "n_parts": [Interval(Integral, 1, None, closed="left")],
        "n_variants": [Interval(Integral, 2, None, closed="left")],
        "image_size": [Interval(Integral, 16, None, closed="left")],
        "n_distractors": [Interval(Integral, 0, None, closed="left")],
        "part_drop": [Interval(Real, 0, 1, closed="left")],
        "spurious": [StrOptions({"patch", "corner", "tint"}), None],
        "spurious_class": [Interval(Integral, 0, None, closed="left")],
        "spurious_align": [Interval(Real, 0, 1, closed="both")],
        "spurious_leak": [Interval(Real, 0, 1, closed="both")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "class_seed": [Interval(Integral, 0, 2**32 - 1, closed="both")],
        "random_state": ["random_state"],
        "return_X_y": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_part_images(
    n_samples: int = 600,
    n_classes: int = 6,
    *,
    n_parts: int = 3,
    n_variants: int = 3,
    image_size: int = 64,
    n_distractors: int = 2,
    part_drop: float = 0.0,
    spurious: str | None = None,
    spurious_class: int = 0,
    spurious_align: float = 1.0,
    spurious_leak: float = 0.0,
    noise: float = 0.03,
    class_seed: int = 0,
    random_state: Any = None,
    return_X_y: bool = False,
) -> Any:
    """Draw images of objects whose parts decide on the class.

    An object is a grey body with `n_parts` parts around it, at a random place and angle. Each
    part comes in `n_variants` variants, which differ in shape and in colour, and no two parts
    share a variant. A class is a code: a variant of each part. Distractors, shapes in pale
    colours beside the object, have nothing to do with the class.

    Parameters
    ----------
    n_samples : int, default=600
        Images; classes are as frequent as one another, give or take one.
    n_classes : int, default=6
        At most ``n_variants ** n_parts``.
    n_parts : int, default=3
        Parts of an object.
    n_variants : int, default=3
        Variants of each part, at least 2.
    image_size : int, default=64
        Height and width in pixels.
    n_distractors : int, default=2
        Distractors in each image.
    part_drop : float, default=0.0
        Probability of each part of not being there. An object keeps at least one part.
    spurious : {"patch", "corner", "tint"}, default=None
        A cue that is no part: a black and white square at a random place or in the upper left
        corner, or a tinted background. It never overlaps the object.
    spurious_class : int, default=0
        The class that the cue betrays.
    spurious_align : float, default=1.0
        Share of the images of that class that have the cue.
    spurious_leak : float, default=0.0
        Share of the other images that have it.
    noise : float, default=0.03
        Standard deviation of normal noise on every pixel and colour.
    class_seed : int, default=0
        Seeds the codes of the classes: sets with the same seed have the same classes.
    random_state : int, RandomState instance or None, default=None
        Seeds all the rest.
    return_X_y : bool, default=False
        Whether to return ``(images, target)`` instead of a Bunch.

    Returns
    -------
    data : Bunch
        Dictionary-like object with these attributes, or the first two of them as a tuple.

        images : float32 ndarray of shape (n_samples, image_size, image_size, 3)
            Colours from 0 to 1.
        target : int64 ndarray of shape (n_samples,)
            Numbers of the classes.
        target_names : list of str
            Names of the classes.
        part_masks : bool ndarray of shape (n_samples, n_parts, image_size, image_size)
            Pixels of which a part covers at least half; none of a part that is not there.
        part_centres : float64 ndarray of shape (n_samples, n_parts, 2)
            ``y, x`` in pixels, from the upper left corner of the upper left pixel; NaN for a
            part that is not there.
        part_visible : bool ndarray of shape (n_samples, n_parts)
            Whether each part is there.
        object_mask : bool ndarray of shape (n_samples, image_size, image_size)
            Body and parts.
        spurious_mask : bool ndarray of shape (n_samples, image_size, image_size)
            The cue; none where there is none.
        class_codes : int64 ndarray of shape (n_classes, n_parts)
            The variant of each part, by class.
        params : list of PartImageParams
            What `render_part_image` draws each image from.
        DESCR : str
            What the images are.

    Raises
    ------
    ValueError
        If there are fewer codes than classes, or `spurious_class` is none of the classes.

    See Also
    --------
    render_part_image : The same image with exactly one thing changed.

    Examples
    --------
    >>> from sklearn_protopnet.datasets import make_part_images
    >>> data = make_part_images(n_samples=12, random_state=0)
    >>> data.images.shape, data.part_masks.shape
    ((12, 64, 64, 3), (12, 3, 64, 64))
    """
    if n_classes > n_variants**n_parts:
        raise ValueError(
            f"n_classes must be at most n_variants ** n_parts = {n_variants**n_parts}, got "
            f"{n_classes}."
        )
    if spurious_class >= n_classes:
        raise ValueError(
            f"spurious_class must be below n_classes={n_classes}, got {spurious_class}."
        )
    codes = draw_codes(n_classes, n_parts, n_variants, class_seed)
    random = check_random_state(random_state)
    target = random.permutation(np.arange(n_samples) % n_classes)
    params = []
    for label in target:
        share = spurious_align if label == spurious_class else spurious_leak
        has_cue = random.uniform() < share
        params.append(
            draw_params(
                random,
                tuple(codes[label].tolist()),
                n_variants=n_variants,
                image_size=image_size,
                n_distractors=n_distractors,
                part_drop=part_drop,
                spurious=spurious if has_cue else None,
                noise=noise,
            )
        )
    rendered = [render(each) for each in params]
    images = np.stack([each.image for each in rendered])
    if return_X_y:
        return images, target
    return Bunch(
        images=images,
        target=target,
        target_names=[f"class {k}" for k in range(n_classes)],
        part_masks=np.stack([each.part_masks for each in rendered]),
        part_centres=np.stack([_part_centres(each) for each in params]),
        part_visible=np.array([each.visible for each in params]),
        object_mask=np.stack([each.object_mask for each in rendered]),
        spurious_mask=np.stack([each.spurious_mask for each in rendered]),
        class_codes=codes,
        params=params,
        DESCR=(
            f"{n_samples} images of {n_classes} classes, drawn by make_part_images: a class is a "
            f"code of one of {n_variants} variants for each of {n_parts} parts."
        ),
    )


def render_part_image(
    params: PartImageParams,
    *,
    remove_parts: Iterable[int] = (),
    set_variant: Mapping[int, int] | None = None,
    remove_spurious: bool = False,
    add_spurious: str | None = None,
) -> NDArray[np.float32]:
    """Draw an image of `make_part_images` again, with exactly what is asked for changed.

    The rest, noise included, keeps its values to the last bit: what changes in a prediction is
    due to the intervention.

    Parameters
    ----------
    params : PartImageParams
        One of the ``params`` of `make_part_images`.
    remove_parts : iterable of int, default=()
        Parts to leave out; the body or the background is seen in their place.
    set_variant : dict of int to int, default=None
        Parts, and the variants that they get. A part that was not there appears.
    remove_spurious : bool, default=False
        Whether to leave the spurious cue out.
    add_spurious : {"patch", "corner", "tint"}, default=None
        A cue to add; it takes the place of one that is there.

    Returns
    -------
    float32 ndarray of shape (image_size, image_size, 3)
        Colours from 0 to 1.

    Raises
    ------
    TypeError
        If `params` are none, `remove_parts` is no iterable, or `set_variant` no dict.
    ValueError
        If there is no such part, variant or cue.

    Examples
    --------
    >>> from sklearn_protopnet.datasets import make_part_images, render_part_image
    >>> data = make_part_images(n_samples=2, random_state=0)
    >>> without = render_part_image(data.params[0], remove_parts=[1])
    >>> changed = (without != data.images[0]).any(axis=2)
    >>> bool(changed[data.part_masks[0, 1]].all())
    True
    """
    if not isinstance(params, PartImageParams):
        raise TypeError(
            f"params must be one of the params of make_part_images, got {type(params).__name__}."
        )
    changed = _changed(params, *_check_changes(params, remove_parts, set_variant))
    if remove_spurious:
        changed = replace(changed, spurious=None)
    if add_spurious is not None:
        if not isinstance(add_spurious, str) or add_spurious not in CUES:
            raise ValueError(f"add_spurious must be one of {sorted(CUES)}, got {add_spurious!r}.")
        changed = replace(changed, spurious=add_spurious)
    return render(changed).image


def _check_changes(
    params: PartImageParams, remove_parts: Any, set_variant: Any
) -> tuple[tuple[int, ...], dict[int, int]]:
    """Check which parts are removed, and which get other variants."""
    if not isinstance(remove_parts, Iterable):
        raise TypeError(f"remove_parts must be an iterable of integers, got {remove_parts!r}.")
    variants = {} if set_variant is None else set_variant
    if not isinstance(variants, Mapping):
        raise TypeError(f"set_variant must be a dict of integers to integers, got {variants!r}.")
    n_parts = len(params.variants)
    return (
        tuple(_number("Parts", part, n_parts) for part in remove_parts),
        {
            _number("Parts", part, n_parts): _number("Variants", variant, params.n_variants)
            for part, variant in variants.items()
        },
    )


def _number(name: str, value: Any, n_values: int) -> int:
    """Check one of so many numbers."""
    if not isinstance(value, Integral) or value not in range(n_values):
        raise ValueError(f"{name} must be integers from 0 to {n_values - 1}, got {value!r}.")
    return int(value)


def _changed(
    params: PartImageParams, removed: tuple[int, ...], new_variants: dict[int, int]
) -> PartImageParams:
    parts = range(len(params.variants))
    visible = [(params.visible[k] or k in new_variants) and k not in removed for k in parts]
    variants = [new_variants.get(k, params.variants[k]) for k in parts]
    return replace(params, visible=tuple(visible), variants=tuple(variants))


def _part_centres(params: PartImageParams) -> NDArray[np.float64]:
    """Centres (P, 2) in pixels; NaN for parts that are not there."""
    centres = np.array([part_place(params, k)[0] for k in range(len(params.variants))])
    centres[~np.array(params.visible)] = np.nan
    return centres * params.image_size
