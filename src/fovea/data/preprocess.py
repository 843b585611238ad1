"""Preprocessor: everything between a raw image and the net's input, fitted on the training images alone."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fovea.data.imageset import Pixels, slices
from fovea.data.pixels import Range, check_images, fit_channels, fit_size, range_of_new_images, to_uint8
from fovea.errors import DataError, ModelError
from fovea.settings import PreprocessingSettings

# One image, float32 [H, W, C] with values 0..255, -> an array of the same shape; the user's own.
ImageFunction = Callable[[NDArray[np.float32]], Any]
STD_EPSILON = 1e-6  # Keras' guard against division by zero
_MOST_PIXELS = 100_000  # along one side


@dataclass(frozen=True, eq=False)
class Preprocessor:
    """The steps from a raw image to the net's input, in Keras' order.

    Raw values -> 0..255 by `input_range`, channels and size as the net expects them, then `function`, `rescale`,
    sample-wise centring and scaling, feature-wise (per channel) centring and scaling, ZCA whitening.

    Attributes:
        image_shape: height, width, channels of the net's input.
        input_range: raw values that become 0 and 255; None: raw values are 0..255 already.
        mean, std: per channel, of the training images after the steps before; None: not applied.
        zca: float32 [H*W*C, H*W*C], applied to the flattened image (channels last); None: not applied.
        function_name: of the user's preprocessing_function; None: there is none.
        function: itself; no file holds it, so that it is None where it has not been passed again.
    """

    image_shape: tuple[int, int, int]
    input_range: Range | None
    rescale: float
    samplewise_center: bool
    samplewise_std: bool
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    zca: NDArray[np.float32] | None
    function_name: str | None = None
    function: ImageFunction | None = None

    def to_uint8(self, images: Any, where: str = "the images") -> Pixels:
        """Any raw images [N, H, W] or [N, H, W, C] -> uint8 of this preprocessor's size and channels.

        Raises:
            DataError: for arrays that are no images.
        """
        images = check_images(images, where)
        images = to_uint8(images, range_of_new_images(images, self.input_range, where))
        height, width, channels = self.image_shape
        return fit_size(fit_channels(images, channels), (height, width))

    def to_input(self, batch: torch.Tensor) -> torch.Tensor:
        """The last steps, on a batch: float32 [B, C, H, W] in 0..255 -> the net's input, same shape.

        Raises:
            ModelError: for a preprocessing_function that has not been passed again, or returns another shape.
        """
        if self.function_name is not None:
            batch = self._by_function(batch)
        batch = batch * self.rescale
        if self.samplewise_center:
            batch = batch - batch.mean(dim=(1, 2, 3), keepdim=True)
        if self.samplewise_std:
            batch = batch / (batch.std(dim=(1, 2, 3), keepdim=True, correction=0) + STD_EPSILON)
        if self.mean is not None:
            batch = batch - torch.tensor(self.mean, device=batch.device)[:, None, None]
        if self.std is not None:
            batch = batch / (torch.tensor(self.std, device=batch.device)[:, None, None] + STD_EPSILON)
        if self.zca is not None:
            flat = batch.permute(0, 2, 3, 1).flatten(1) @ torch.from_numpy(self.zca).to(batch.device)
            batch = flat.view(-1, *self.image_shape).permute(0, 3, 1, 2)
        return batch

    def _by_function(self, batch: torch.Tensor) -> torch.Tensor:
        """Each image as the user's function makes it."""
        if self.function is None:
            raise ModelError(f"The preprocessing_function {self.function_name} has not been passed again.")
        images = batch.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).cpu().numpy()  # it may write
        made = np.empty_like(images)
        for image, place in zip(images, made, strict=True):
            found = np.asarray(self.function(image))
            if found.shape != image.shape or found.dtype.kind not in "biuf":
                raise ModelError(
                    f"The preprocessing_function {self.function_name} returned {found.dtype} of shape {found.shape} "
                    f"for an image of shape {image.shape}: expected numbers of the same shape."
                )
            with np.errstate(over="ignore"):
                place[:] = found
            if not np.isfinite(place).all():
                raise ModelError(
                    f"The preprocessing_function {self.function_name} returned NaN or infinite values for an image of "
                    f"shape {image.shape}: expected numbers that float32 holds."
                )
        return torch.from_numpy(made).permute(0, 3, 1, 2).to(batch.device)

    def with_function(self, function: ImageFunction | None, where: str) -> Preprocessor:
        """With the user's function, which no file holds.

        Args:
            where: what was trained with it, for messages.

        Raises:
            ModelError: when it is missing, another one, or not wanted.
        """
        wanted, given = self.function_name, None if function is None else name_of_function(function)
        if wanted is not None and given is None:
            raise ModelError(
                f"{where} was trained with the preprocessing_function {wanted}, which no file holds: pass it again in "
                "Python, preprocessing_function=."
            )
        if given is not None and (wanted is None or wanted.rpartition(".")[2] != given.rpartition(".")[2]):
            trained = "without a preprocessing_function" if wanted is None else f"with {wanted}"
            raise ModelError(f"{where} was trained {trained}, not with the preprocessing_function {given}.")
        return replace(self, function=function)

    @property
    def steps(self) -> dict[str, Any]:
        """The settings, by their full names, that make the same steps of other training images."""
        return {
            "preprocessing.rescale": self.rescale,
            "preprocessing.samplewise_center": self.samplewise_center,
            "preprocessing.samplewise_std_normalization": self.samplewise_std,
            "preprocessing.featurewise_center": self.mean is not None,
            "preprocessing.featurewise_std_normalization": self.std is not None,
            "preprocessing.zca_whitening": self.zca is not None,
        }

    def as_json(self) -> dict[str, Any]:
        """All of it as plain values; the ZCA matrix as base64 of little-endian float32."""
        zca = None if self.zca is None else base64.b64encode(self.zca.astype("<f4").tobytes()).decode()
        return {
            "image_shape": list(self.image_shape),
            "input_range": None if self.input_range is None else list(self.input_range),
            "function": self.function_name,
            "rescale": self.rescale,
            "samplewise_center": self.samplewise_center,
            "samplewise_std_normalization": self.samplewise_std,
            "featurewise_mean": None if self.mean is None else list(self.mean),
            "featurewise_std": None if self.std is None else list(self.std),
            "zca": zca,
        }


def preprocessor_from_json(value: dict[str, Any]) -> Preprocessor:
    """The inverse of `Preprocessor.as_json`.

    Raises:
        DataError: when a value is missing or of the wrong kind.
    """
    try:
        height, width, channels = (int(side) for side in value["image_shape"])
        if not 1 <= min(height, width, channels) <= max(height, width, channels) <= _MOST_PIXELS:
            raise ValueError(f"images of {height} x {width} x {channels}")
        size = height * width * channels
        zca = value["zca"]
        return Preprocessor(
            image_shape=(height, width, channels),
            input_range=_stored_range(value["input_range"]),
            rescale=float(value["rescale"]),
            samplewise_center=bool(value["samplewise_center"]),
            samplewise_std=bool(value["samplewise_std_normalization"]),
            mean=_stored_channels(value["featurewise_mean"], channels),
            std=_stored_channels(value["featurewise_std"], channels),
            zca=None if zca is None else np.frombuffer(base64.b64decode(zca), "<f4").reshape(size, size).copy(),
            function_name=value.get("function"),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"The stored preprocessing is damaged: {error}.") from None


def _stored_range(value: Any) -> Range | None:
    if value is None:
        return None
    low, high = map(float, value)
    return low, high


def _stored_channels(value: Any, channels: int) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = tuple(map(float, value))
    if len(numbers) != channels:
        raise ValueError(f"{len(numbers)} numbers for {channels} channels")
    return numbers


def name_of_function(function: ImageFunction) -> str:
    """ "module.function"; of an object that can be called, its class.

    Raises:
        ModelError: for what cannot be called.
    """
    if not callable(function):
        raise ModelError(f"The preprocessing_function is {function!r}: expected a function of one image.")
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def centers_samples(settings: PreprocessingSettings) -> bool:
    """Whether each image is centred: as asked, else where it is scaled to its deviation, as in Keras."""
    asked = settings.samplewise_center
    return settings.samplewise_std_normalization if asked is None else asked


def fit_preprocessor(
    images: Pixels,
    settings: PreprocessingSettings,
    input_range: Range | None,
    function: ImageFunction | None = None,
) -> Preprocessor:
    """Fit a preprocessor on the training images.

    Args:
        images: uint8 [N, H, W, C] of the train split alone.
        input_range: how raw values were mapped to 0..255.
        function: the user's own step before all others.
    """
    height, width, channels = images.shape[1:]
    fitted = Preprocessor(
        image_shape=(height, width, channels),
        input_range=input_range,
        rescale=settings.rescale,
        samplewise_center=centers_samples(settings),
        samplewise_std=settings.samplewise_std_normalization,
        mean=None,
        std=None,
        zca=None,
        function_name=None if function is None else name_of_function(function),
        function=function,
    )
    mean, std = _moments(images, fitted)
    fitted = replace(
        fitted,
        mean=mean if settings.featurewise_center else None,
        std=std if settings.featurewise_std_normalization else None,
    )
    return replace(fitted, zca=_zca_matrix(images, fitted, settings.zca_epsilon)) if settings.zca_whitening else fitted


def _inputs(images: Pixels, preprocessor: Preprocessor) -> Any:
    """The net's inputs in slices: float32 [n, C, H, W]."""
    for _, part in slices(images):
        batch = torch.from_numpy(np.array(part)).permute(0, 3, 1, 2)
        yield preprocessor.to_input(batch.to(torch.float32))


def _moments(images: Pixels, preprocessor: Preprocessor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, summed in float64."""
    total = torch.zeros(images.shape[3], dtype=torch.float64)
    squares, count = torch.zeros_like(total), 0
    for batch in _inputs(images, preprocessor):
        batch = batch.double()
        total += batch.sum(dim=(0, 2, 3))
        squares += batch.square().sum(dim=(0, 2, 3))
        count += batch[:, 0].numel()
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())


def _zca_matrix(images: Pixels, preprocessor: Preprocessor, epsilon: float) -> NDArray[np.float32]:
    """U diag(1 / sqrt(S + epsilon)) U^T of the inputs' second moments, as Keras up to 2.x; 3 has sqrt(S) + tiny.

    Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009, appendix A.
    """
    size = images.shape[1] * images.shape[2] * images.shape[3]
    if size > 4096:
        raise ModelError(
            f"zca_whitening needs a matrix of {size} x {size} for images of this size; "
            "set a smaller image_size (height * width * channels at most 4,096) or leave it out."
        )
    moments = torch.zeros(size, size, dtype=torch.float64)
    for batch in _inputs(images, preprocessor):
        flat = batch.permute(0, 2, 3, 1).flatten(1).double()
        moments += flat.T @ flat
    values, vectors = torch.linalg.eigh(moments / len(images))
    whitening: torch.Tensor = (vectors / (values.clamp(min=0) + epsilon).sqrt()) @ vectors.T
    return whitening.to(torch.float32).numpy()
