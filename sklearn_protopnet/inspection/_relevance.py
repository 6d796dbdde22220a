"""Prototype relevance propagation through any backbone (Gautam et al. 2023).

Gautam, Höhne, Hansen, Jenssen and Kampffmeyer, "This looks more like that: Enhancing
self-explaining models by prototypical relevance propagation", Pattern Recognition 136. The rules
are theirs: alpha 1, beta 0 in convolutions, without their biases; batch normalisation folded into
the convolution before it; z^B where the image comes in; relevance of an activation passed through.

What flows back here is not relevance R but the ratio R / a of relevance and activation, in the
place of gradients. At a sum ``z = x + y``, relevance is to be shared by terms, ``R_x = R_z x / z``:
that is ``R_x / x = R_z / z``, the ratio handed on as it is, which is what autograd does with the
gradient of a sum. Likewise a maximum hands the ratio to the winner, concatenation, cropping and
padding take it apart, and an average divides it as it divides the activations. So does `relu`: what
it lets through is unchanged. Whatever is linear with one weight for all its terms, or chooses, so
needs no rule, and any architecture that is made of such parts and the intercepted ones works.
Rules are needed where autograd would multiply the ratio by something that is no share: weights,
scales and slopes.

Relevance is conserved, ``sum(R)`` being the same before and after a layer, but for what

* a bias or the shift of a normalisation has activated, since it is no pixel's;
* had no positive term in a convolution: the positive ones alone share its relevance;
* went through a layer without a rule: group normalisation loses some, and a product of two
  activations gives each of them all of it.

`_attribution.relevance` measures by its deltas what all of them lose.

Shapes: N images, C channels of H x W cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's name for it
from torch.nn.grad import conv2d_input
from torch.overrides import TorchFunctionMode

from sklearn_protopnet._compat import count_writes

SMALLEST: Final = 1e-9
"""Nothing is divided by numbers below this one."""


class _Linear(NamedTuple):
    """A convolution that was carried out: what it was given."""

    inputs: Tensor
    weight: Tensor
    plan: dict[str, Any]


class Propagation(TorchFunctionMode):
    """Has a forward pass remember how relevance flows back through it.

    The gradient of an output with respect to the images, times the images, is then relevance.

    Parameters
    ----------
    images : Tensor of shape (N, C, H, W)
        What the pass begins with.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        pixels = images.detach()
        # Borders of zeros count as pixels: the range holds 0, so that low <= 0 <= high.
        self._low = pixels.amin((0, 2, 3), keepdim=True).clamp(max=0)  # (1, C, 1, 1)
        self._high = pixels.amax((0, 2, 3), keepdim=True).clamp(min=0)
        self._raw = [(images, count_writes(images))]
        self._convolutions: list[tuple[Tensor, int, _Linear]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.conv2d:
            return self._convolution(_by_name(CONVOLUTION, args, given))
        if func is F.batch_norm:
            return self._normalization(_by_name(NORMALIZATION, args, given))
        if func in PASSED_THROUGH:
            before, *rest = args or (given.pop("input"),)
            # On a copy: in place, it would overwrite the activation that its rule divides by, and
            # that the layer before has saved. What it returns is what the network goes on with.
            after = func(before.detach().clone(), *rest, **given)
            return _PassedThrough.apply(before, after)
        result = func(*args, **given)
        if func is F.pad and self._is_raw(args[0]):
            self._raw.append((result, count_writes(result)))
        return result

    def _is_raw(self, tensor: Tensor) -> bool:
        # After `relu_` it is the same tensor, and no longer what came in.
        return any(tensor is each and count_writes(each) == n for each, n in self._raw)

    def _convolution(self, given: dict[str, Any]) -> Tensor:
        inputs, weight, bias = given.pop("input"), given.pop("weight"), given.pop("bias", None)
        result = torch.conv2d(inputs.detach(), weight, bias, **given)
        linear = _Linear(inputs, weight.detach(), given)
        found = self._linear(linear, result)
        self._convolutions.append((found, count_writes(found), linear))
        return found

    def _normalization(self, given: dict[str, Any]) -> Tensor:
        """Normalise; where a convolution comes right before, as one convolution with it."""
        inputs = given.pop("input")
        result = F.batch_norm(inputs.detach(), **given)
        variance, weight = given["running_var"], given.get("weight")
        is_fixed = variance is not None and not given.get("training", False)
        for found, n_writes, linear in self._convolutions:
            # After `relu_` it is the same tensor, and no longer what the convolution gave.
            if is_fixed and found is inputs and count_writes(inputs) == n_writes:
                scale = torch.rsqrt(variance + given.get("eps", 1e-5))
                scale = scale * (1 if weight is None else weight.detach())
                folded = linear._replace(weight=linear.weight * scale[:, None, None, None])
                return self._linear(folded, result)
        passed: Tensor = _PassedThrough.apply(inputs, result)
        return passed

    def _linear(self, linear: _Linear, result: Tensor) -> Tensor:
        inputs, weight, plan = linear
        found: Tensor
        if self._is_raw(inputs):
            found = _FirstConvolution.apply(inputs, weight, result, self._low, self._high, plan)
        else:
            found = _Convolution.apply(inputs, weight, result, plan)
        return found


CONVOLUTION: Final = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
NORMALIZATION: Final = (
    "input",
    "running_mean",
    "running_var",
    "weight",
    "bias",
    "training",
    "momentum",
    "eps",
)
"""Arguments have these names, in torch's order."""


def _by_name(
    names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    return {**dict(zip(names, args, strict=False)), **kwargs}


class _Convolution(torch.autograd.Function):
    """Alpha 1, beta 0: relevance goes to what has made the output larger, in proportion."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, result: Tensor, plan: Any) -> Tensor:
        ctx.save_for_backward(inputs, weight, result)
        ctx.plan = plan
        # A copy: the caller may change it in place, and backward needs what the convolution gave.
        return result.clone()

    @staticmethod
    def backward(ctx: Any, ratio: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, result = ctx.saved_tensors
        terms = [(inputs.clamp(min=0), weight.clamp(min=0))]
        if (inputs < 0).any():
            terms.append((inputs.clamp(max=0), weight.clamp(max=0)))
        shares = _shares(terms, ratio * result, ctx.plan)  # relevance of the output: ratio * result
        positive, negative = shares[0], shares[-1]  # one and the same without negative inputs
        return torch.where(inputs > 0, positive, negative * (inputs < 0)), None, None, None


class _FirstConvolution(torch.autograd.Function):
    """z^B: where inputs are pixels between a lowest and a highest value."""

    @staticmethod
    def forward(  # noqa: PLR0917 - as autograd calls it
        ctx: Any,
        inputs: Tensor,
        weight: Tensor,
        result: Tensor,
        low: Tensor,
        high: Tensor,
        plan: Any,
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight, result, low, high)
        ctx.plan = plan
        return result.clone()

    @staticmethod
    def backward(ctx: Any, ratio: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, result, low, high = ctx.saved_tensors
        terms = [
            (inputs, weight),
            (-low.expand_as(inputs), weight.clamp(min=0)),
            (-high.expand_as(inputs), weight.clamp(max=0)),
        ]
        shares = _shares(terms, ratio * result, ctx.plan)
        relevance = sum(values * share for (values, _), share in zip(terms, shares, strict=True))
        # A pixel of value 0 may have relevance: both here and where the ratio is multiplied by the
        # pixels, zero stands for the same small number.
        return relevance / not_zero(inputs), *[None] * 5


def _shares(
    terms: Sequence[tuple[Tensor, Tensor]], relevance: Tensor, plan: Mapping[str, Any]
) -> list[Tensor]:
    """Relevance over value for the inputs of each term of a sum of convolutions."""
    parts = [torch.conv2d(values, weight, **plan) for values, weight in terms]
    total = torch.stack(parts).sum(0)
    # Where nothing is positive, there is nobody to give relevance to: it is lost here.
    share = torch.where(total > SMALLEST, relevance / not_zero(total), 0)
    shape = terms[0][0].shape
    return [_transposed(shape, weight, share, plan) for _, weight in terms]


def _transposed(
    shape: torch.Size, weight: Tensor, share: Tensor, plan: Mapping[str, Any]
) -> Tensor:
    """Gradient of a convolution with respect to inputs of a shape."""
    if not isinstance(plan.get("padding", 0), str):
        found: Tensor = conv2d_input(shape, weight, share, **plan)
        return found
    with torch.enable_grad():  # "same" may mean borders that differ
        inputs = torch.zeros(shape, dtype=share.dtype, device=share.device, requires_grad=True)
        outputs = torch.conv2d(inputs, weight, **plan)
    (back,) = torch.autograd.grad(outputs, inputs, share)
    return back


class _PassedThrough(torch.autograd.Function):
    """Relevance of an output is that of its only input."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, result: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, result)
        return result.clone()

    @staticmethod
    def backward(ctx: Any, ratio: Tensor) -> tuple[Tensor | None, ...]:
        inputs, result = ctx.saved_tensors
        return ratio * result / not_zero(inputs), None


PASSED_THROUGH: Final = frozenset(
    {
        torch.prelu,
        torch.sigmoid,
        Tensor.sigmoid,
        torch.tanh,
        Tensor.tanh,
        F.celu,
        F.elu,
        F.gelu,
        F.hardsigmoid,
        F.hardswish,
        F.hardtanh,
        F.leaky_relu,
        F.mish,
        F.prelu,
        F.relu6,
        F.selu,
        F.silu,
        F.softplus,
    }
)
"""These activations change values; `relu` needs no rule: what it lets through is unchanged."""


def not_zero(values: Tensor) -> Tensor:
    """Keep numbers away from zero, so that relevance over activation is finite."""
    return torch.where(values.abs() > SMALLEST, values, SMALLEST)
