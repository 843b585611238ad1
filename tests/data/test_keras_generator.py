"""Augmentation and preprocessing against the real ImageDataGenerator, given the same draws; and where it is left."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fovea.data.affine import AffineParameters, source_positions
from fovea.data.augment import Draws, augment_batch, complete_augmentation, draw_affine
from fovea.data.preprocess import fit_preprocessor
from fovea.settings import AugmentationSettings, PreprocessingSettings

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:Please import `affine_transform`:DeprecationWarning"),  # Keras' own call
]

CLOSE = 1e-4 * 255  # of the value range
SEED, EPOCH = 3, 2
SIZES = [(12, 12, 1), (13, 13, 3), (28, 28, 1), (9, 14, 3), (16, 11, 1)]
OPTIONS: dict[str, dict[str, Any]] = {
    "rotation": {"rotation_range": 40},
    "any rotation": {"rotation_range": 180},
    "width shift, a fraction": {"width_shift_range": 0.3},
    "height shift, a fraction": {"height_shift_range": 0.3},
    "width shift, float pixels": {"width_shift_range": 3.0},
    "height shift, float pixels": {"height_shift_range": 1.0},
    "width shift, whole pixels": {"width_shift_range": 4},
    "height shift, whole pixels": {"height_shift_range": 4},
    "width shift, choices": {"width_shift_range": [0.5, 2.0, 3.25]},
    "height shift, choices of fractions": {"height_shift_range": [0.1, 0.25]},
    "shear": {"shear_range": 30},
    "zoom, a number": {"zoom_range": 0.4},
    "zoom, a pair": {"zoom_range": [0.5, 1.0]},
    "zoom, a pair upside down": {"zoom_range": [2.0, 0.1]},
    "channel shift": {"channel_shift_range": 70.0},
    "horizontal flip": {"horizontal_flip": True},
    "vertical flip": {"vertical_flip": True},
}
FILLS = [("nearest", 0.0), ("constant", 0.0), ("constant", 99.5), ("constant", -20.0), ("reflect", 0.0)]
EVERYTHING: dict[str, Any] = {
    "rotation_range": 25,
    "width_shift_range": 0.2,
    "height_shift_range": 0.15,
    "shear_range": 15,
    "zoom_range": 0.3,
    "channel_shift_range": 40.0,
    "horizontal_flip": True,
    "vertical_flip": True,
}


@pytest.fixture(scope="module")
def generator_class() -> Any:
    """Keras' ImageDataGenerator."""
    os.environ["KERAS_BACKEND"] = "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("keras")
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    return ImageDataGenerator


def pictures(size: tuple[int, int, int], count: int = 8) -> NDArray[np.float32]:
    """Noise with a black and a white patch, of whole values: float32 [N, H, W, C]."""
    images = np.random.default_rng(0).integers(0, 256, (count, *size)).astype(np.float32)
    images[:, 2:6, 2:6] = 0
    images[:, 6:9, 3:8] = 255
    return images


def complete(values: dict[str, Any]) -> AugmentationSettings:
    return complete_augmentation(AugmentationSettings.model_validate(values), "none")


def ours(images: NDArray[np.float32], settings: AugmentationSettings) -> NDArray[np.float32]:
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    found = augment_batch(batch, settings, np.arange(len(images)), SEED, EPOCH)
    return found.permute(0, 2, 3, 1).numpy()


def drawn(settings: AugmentationSettings, height: int, width: int, count: int) -> list[dict[str, Any]]:
    """What we draw for each image, under the names of Keras' apply_transform."""
    draws = Draws(np.arange(count), SEED, EPOCH)
    affine = draw_affine(settings, height, width, draws)
    found: list[dict[str, Any]] = [{} for _ in range(count)]
    if affine is not None:
        names = {"theta": "theta", "shear": "shear", "zx": "zoom_columns", "zy": "zoom_rows"}
        names |= {"tx": "shift_columns", "ty": "shift_rows"}
        for number, parameters in enumerate(found):
            parameters |= {name: float(getattr(affine, field)[number]) for name, field in names.items()}
            if height != width:
                about_the_true_middle(parameters, height, width)
    values = {}
    if settings.channel_shift_range:
        most = settings.channel_shift_range
        values["channel_shift_intensity"] = draws.between(-most, most, "channel_shift")
    if settings.brightness_range:
        values["brightness"] = draws.between(*settings.brightness_range, "brightness")
    if settings.horizontal_flip:
        values["flip_horizontal"] = draws.coins("horizontal_flip", alternating=False)
    if settings.vertical_flip:
        values["flip_vertical"] = draws.coins("vertical_flip", alternating=False)
    return [parameters | {name: v[i].item() for name, v in values.items()} for i, parameters in enumerate(found)]


def about_the_true_middle(parameters: dict[str, Any], height: int, width: int) -> None:
    """Keras turns an image that is not square about the middle of its transpose; a further shift takes that back."""
    theta, shear = np.deg2rad(parameters["theta"]), np.deg2rad(parameters["shear"])
    rotation = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    sheared = np.array([[1, -np.sin(shear)], [0, np.cos(shear)]])
    linear = rotation @ sheared @ np.diag([parameters["zx"], parameters["zy"]])
    off = np.array([width - height, height - width]) / 2
    shift = np.linalg.solve(rotation, (np.eye(2) - linear) @ off)
    parameters["tx"], parameters["ty"] = parameters["tx"] + shift[0], parameters["ty"] + shift[1]


def theirs(
    generator_class: Any, images: NDArray[np.float32], parameters: list[dict[str, Any]], **options: Any
) -> NDArray[np.float32]:
    generator = generator_class(**options)
    return np.stack(
        [generator.apply_transform(image, values) for image, values in zip(images, parameters, strict=True)]
    )


def doubtful(settings: AugmentationSettings, parameters: list[dict[str, Any]], size: tuple[int, ...]) -> NDArray[Any]:
    """Pixels that read within rounding of a step: the border of "constant", the middle between two nearest pixels."""
    height, width = size[:2]
    affine = draw_affine(settings, height, width, Draws(np.arange(len(parameters)), SEED, EPOCH))
    if affine is None:
        return np.zeros((len(parameters), height, width), bool)
    positions = source_positions(affine, height, width).numpy()
    unsure = np.zeros(positions.shape, bool)
    turned = (affine.theta != 0) | (affine.shear != 0) | (affine.zoom_rows != 1) | (affine.zoom_columns != 1)
    for part, side in ((positions.real, width), (positions.imag, height)):
        place = part + (side / 2 - 0.5)
        if settings.fill_mode == "constant":
            border = np.minimum(np.abs(place), np.abs(place - (side - 1)))
            unsure |= ((border > 0) | turned[:, None, None]) & (border < 2e-4)
        if settings.interpolation == "nearest":
            unsure |= np.abs(place % 1 - 0.5) < 2e-4
    for mask, values in zip(unsure, parameters, strict=True):
        if values.get("flip_horizontal"):
            mask[:] = mask[:, ::-1].copy()
        if values.get("flip_vertical"):
            mask[:] = mask[::-1].copy()
    return unsure


def compare(generator_class: Any, size: tuple[int, int, int], given: dict[str, Any], order: int = 1) -> None:
    """Every pixel of every image within 1e-4 of the value range, those left out that read at a step."""
    settings = complete({**given, "interpolation": "bilinear" if order else "nearest"})
    images = pictures(size)
    parameters = drawn(settings, *size[:2], len(images))
    fill = {"fill_mode": settings.fill_mode, "cval": settings.cval}
    expected = theirs(generator_class, images, parameters, **fill, interpolation_order=order)
    differs = (np.abs(ours(images, settings) - expected) > CLOSE).any(axis=-1)
    unsure = doubtful(settings, parameters, size)
    assert not (differs & ~unsure).any(), (given, parameters)
    assert unsure.mean() < 0.05


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_alone(generator_class: Any, option: str, size: tuple[int, int, int]) -> None:
    for fill_mode, cval in FILLS:
        compare(generator_class, size, {**OPTIONS[option], "fill_mode": fill_mode, "cval": cval})


@pytest.mark.parametrize("order", [1, 0])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_sampled_combinations(generator_class: Any, size: tuple[int, int, int], order: int) -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        names = [name for name in EVERYTHING if rng.random() < 0.6]
        fill_mode, cval = FILLS[rng.integers(len(FILLS))]
        given = {name: EVERYTHING[name] for name in names}
        compare(generator_class, size, {**given, "fill_mode": fill_mode, "cval": cval}, order)


@pytest.mark.parametrize("option", [option for option in OPTIONS if "shift" not in option or "whole" in option])
def test_each_option_alone_with_the_nearest_pixel(generator_class: Any, option: str) -> None:
    compare(generator_class, (13, 13, 3), {**OPTIONS[option], "fill_mode": "reflect"}, order=0)


@pytest.mark.parametrize(
    "shift", [0.2, 0.99, 1.0, 1, 3.0, 3, 4, [1, 4], [0.25], [0.1, 0.3], [0.5, 2.0], [-3, 2]], ids=repr
)
def test_shift_ranges_are_read_as_keras_reads_them(generator_class: Any, shift: Any) -> None:
    generator = generator_class(width_shift_range=shift, height_shift_range=shift)
    np.random.seed(0)
    theirs = [generator.get_random_transform((10, 20, 1)) for _ in range(2000)]
    affine = draw_affine(
        complete({"width_shift_range": shift, "height_shift_range": shift}), 10, 20, Draws(np.arange(2000), 0, 1)
    )
    found = {"tx": np.zeros(1), "ty": np.zeros(1)}
    if affine is not None:
        found = {"tx": affine.shift_rows, "ty": affine.shift_columns}  # as Keras draws them; see below
    for name, values in found.items():
        expected = np.array([parameters[name] for parameters in theirs])
        if isinstance(shift, float):
            assert np.abs(values).max() == pytest.approx(np.abs(expected).max(), rel=0.01)
            assert values.std() == pytest.approx(expected.std(), rel=0.05)
        else:
            assert np.unique(values) == pytest.approx(np.unique(expected))


@pytest.mark.parametrize("zoom", [0.3, 1, [0.5, 1.0], [2.0, 0.1], (1.5, 1.5)], ids=repr)
def test_zoom_ranges_are_read_as_keras_reads_them(generator_class: Any, zoom: Any) -> None:
    np.random.seed(0)
    generator = generator_class(zoom_range=zoom)
    theirs = np.array([[p["zx"], p["zy"]] for p in (generator.get_random_transform((9, 9, 1)) for _ in range(4000))])
    affine = draw_affine(complete({"zoom_range": zoom}), 9, 9, Draws(np.arange(4000), 0, 1))
    assert affine is not None
    for axis, values in enumerate((affine.zoom_columns, affine.zoom_rows)):
        assert values.min() == pytest.approx(theirs[:, axis].min(), abs=0.01)
        assert values.max() == pytest.approx(theirs[:, axis].max(), abs=0.01)
        assert values.mean() == pytest.approx(theirs[:, axis].mean(), abs=0.05)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_brightness_multiplies_where_keras_rounds_down_to_whole_values_before_and_after(
    generator_class: Any, size: tuple[int, int, int]
) -> None:
    images = pictures(size)
    settings = complete({"brightness_range": [0.4, 1.8]})
    parameters = drawn(settings, *size[:2], len(images))
    factors = np.array([values["brightness"] for values in parameters])[:, None, None, None]
    lost = ours(images, settings) - theirs(generator_class, images, parameters)
    assert lost.min() >= -CLOSE
    assert lost.max() < 1 + CLOSE  # of 255
    turned = complete({"brightness_range": [0.4, 1.8], "rotation_range": 30})
    parameters = drawn(turned, *size[:2], len(images))
    lost = ours(images, turned) - theirs(generator_class, images, parameters)
    assert lost.min() >= -CLOSE * 2
    assert (lost < 1 + factors + CLOSE).all()
    # Where nothing is to round, nothing differs.
    images, halves = np.floor(images / 4) * 4, [{"brightness": 0.75}] * len(images)
    expected = ours(images, complete({"brightness_range": [0.75, 0.75]}))
    assert np.abs(expected - theirs(generator_class, images, halves)).max() < CLOSE


# Where Keras is left; docs/from-keras-augmentation.md lists it.


def test_keras_blackens_images_that_are_divided_by_255_already(generator_class: Any) -> None:
    images = pictures((12, 12, 1))
    images = np.minimum(images, 254) / 255
    generator = generator_class(brightness_range=[1.0, 1.0])
    assert generator.random_transform(images[0]).max() == 0
    found = ours(images * 255, complete({"brightness_range": [1.0, 1.0]})) / 255
    assert np.allclose(found, images, atol=1e-6)


def test_keras_moves_sideways_by_height_shift_range(generator_class: Any) -> None:
    image = np.zeros((9, 9, 1), np.float32)
    image[4, 4] = 255
    found = generator_class(height_shift_range=[3]).random_transform(image)
    assert np.argwhere(found[..., 0])[0].tolist() in ([4, 1], [4, 7])
    found = ours(image[None], complete({"height_shift_range": [3.0]}))[0]
    assert np.argwhere(found[..., 0])[0].tolist() in ([1, 4], [7, 4])


def test_keras_turns_an_image_that_is_not_square_about_another_point(generator_class: Any) -> None:
    image = np.zeros((6, 10, 1), np.float32)
    image[2:4, 4:6] = 255
    found = generator_class(fill_mode="constant").apply_transform(image, {"theta": 180})
    assert found.max() == 0
    half_turn = AffineParameters(*(np.array([value], np.float32) for value in (180, 0, 0, 0, 1, 1)))
    positions = source_positions(half_turn, 6, 10)[0].numpy()
    assert np.allclose(positions, positions[::-1, ::-1] * -1, atol=1e-5)


def test_scipys_wrap_takes_the_first_and_the_last_pixel_for_one(generator_class: Any) -> None:
    image = np.arange(6, dtype=np.float32)[None, :, None].repeat(6, axis=0)
    found = generator_class(fill_mode="wrap").apply_transform(image, {"tx": 2})
    assert found[0, :, 0].tolist() == [2, 3, 4, 5, 1, 2]
    settings = complete({"width_shift_range": [2.0], "fill_mode": "wrap"})
    assert ours(image[None], settings)[0, 0, :, 0].tolist() in ([2, 3, 4, 5, 0, 1], [4, 5, 0, 1, 2, 3])


def standardized(generator_class: Any, pixels: NDArray[np.uint8], **options: Any) -> NDArray[np.float32]:
    """What Keras' generator, fitted on the images, makes of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        generator = generator_class(**options)
        generator.fit(pixels)
    return np.stack([generator.standardize(image.astype(np.float32)) for image in pixels]).reshape(pixels.shape)


def preprocessed(pixels: NDArray[np.uint8], function: Any = None, **settings: Any) -> NDArray[np.float32]:
    neutral = {"rescale": 1.0, "featurewise_center": False, "featurewise_std_normalization": False}
    fitted = fit_preprocessor(pixels, PreprocessingSettings.model_validate({**neutral, **settings}), None, function)
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    return fitted.to_input(batch).permute(0, 2, 3, 1).numpy()


STEPS: list[dict[str, Any]] = [
    {},
    {"rescale": 1 / 255},
    {"samplewise_center": True},
    {"samplewise_std_normalization": True},  # which centres too
    {"samplewise_center": True, "samplewise_std_normalization": True, "rescale": 1 / 255},
    {"featurewise_center": True},
    {"featurewise_center": True, "featurewise_std_normalization": True},
    {"featurewise_center": True, "featurewise_std_normalization": True, "rescale": 1 / 255},
    {"featurewise_center": True, "zca_whitening": True, "rescale": 1 / 255},
]


def unequal_channels(size: tuple[int, int, int], count: int = 500) -> NDArray[np.uint8]:
    """Images whose channels have their own mean and deviation: uint8 [N, H, W, C]."""
    values = np.random.default_rng(0).uniform(0, 1, (count, *size)) * np.linspace(0.4, 0.8, size[2]) + 0.1
    return (values * 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(4, 4, 1), (5, 4, 3)], ids=str)
@pytest.mark.parametrize("steps", STEPS, ids=str)
def test_each_step_between_image_and_net(generator_class: Any, steps: dict[str, Any], size: tuple[int, ...]) -> None:
    pixels = unequal_channels(size)
    expected = standardized(generator_class, pixels, **steps)
    found = preprocessed(pixels, **steps)
    assert np.abs(found - expected).max() < 1e-4 * np.ptp(expected)


def test_keras_lets_zca_whitening_switch_off_feature_wise_scaling(generator_class: Any) -> None:
    pixels = unequal_channels((4, 4, 3))
    both = {"featurewise_center": True, "featurewise_std_normalization": True, "zca_whitening": True}
    with pytest.warns(UserWarning, match="overrides setting of`featurewise_std_normalization`"):
        generator = generator_class(**both)
    assert not generator.featurewise_std_normalization
    scaled = preprocessed(pixels, **both)
    expected = standardized(generator_class, pixels, featurewise_center=True, zca_whitening=True)
    assert np.abs(preprocessed(pixels, **{**both, "featurewise_std_normalization": False}) - expected).max() < 1e-3
    assert np.abs(scaled - expected).max() > 0.1
    flat = scaled.reshape(500, -1)
    assert np.allclose(flat.T @ flat / 500, np.eye(48), atol=1e-3)


def test_keras_3_magnifies_what_never_varies_a_million_times(generator_class: Any) -> None:
    pixels = unequal_channels((4, 4, 1))
    pixels[:, 0, :2] = 0  # two pixels that are always alike
    generator = generator_class(featurewise_center=True, zca_whitening=True, rescale=1 / 255)
    generator.fit(pixels)
    settings = {"featurewise_center": False, "featurewise_std_normalization": False, "zca_whitening": True}
    fitted = fit_preprocessor(pixels, PreprocessingSettings.model_validate(settings), None)
    assert fitted.zca is not None
    assert np.linalg.norm(fitted.zca, 2) == pytest.approx(1e-6**-0.5, rel=1e-3)
    assert np.linalg.norm(generator.zca_whitening_matrix, 2) > 1e6


def test_keras_fits_feature_wise_values_to_images_before_the_sample_wise_steps(generator_class: Any) -> None:
    pixels = unequal_channels((4, 4, 3))
    steps = {"samplewise_center": True, "featurewise_center": True}
    assert abs(standardized(generator_class, pixels, **steps).mean()) > 80  # of images with mean 0: -(their mean)
    assert abs(preprocessed(pixels, **steps).mean()) < 1e-3


def test_keras_centres_whatever_it_scales(generator_class: Any) -> None:
    with pytest.warns(UserWarning, match="overrides setting of `featurewise_center`"):
        assert generator_class(featurewise_std_normalization=True).featurewise_center
    pixels = unequal_channels((4, 4, 1))
    scaled = preprocessed(pixels, samplewise_center=False, samplewise_std_normalization=True)
    assert scaled.min() >= 0  # what is asked for, centring left off


def test_a_preprocessing_function_is_the_first_step(generator_class: Any) -> None:
    pixels = unequal_channels((5, 4, 3))
    steps = {"rescale": 1 / 255, "samplewise_std_normalization": True}
    expected = standardized(generator_class, pixels, **steps, preprocessing_function=root)
    assert np.abs(preprocessed(pixels, function=root, **steps) - expected).max() < 1e-4 * np.ptp(expected)


def test_keras_fits_feature_wise_values_to_images_without_the_preprocessing_function(generator_class: Any) -> None:
    pixels = unequal_channels((5, 4, 3))
    steps = {"featurewise_center": True, "preprocessing_function": root}
    assert standardized(generator_class, pixels, **steps).mean() < -80
    assert abs(preprocessed(pixels, function=root, featurewise_center=True).mean()) < 1e-3


def root(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sqrt(image)
