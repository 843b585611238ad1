"""The data sets that have a name: their classes, where they are looked for, and what their official files are.

Addresses and digests are those that the sets' authors, torchvision, Keras and TensorFlow Datasets publish.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fovea.data.digests import is_published
from fovea.data.download import RemoteFile, by_hand_message, fetch
from fovea.data.folders import cache_folder, search_folders
from fovea.data.imageset import RawData, RawSet
from fovea.data.options import ReadOptions
from fovea.data.readers.idx import EMNIST_CLASSES, one_set, read_idx_files
from fovea.data.readers.recognise import read_path, tree_at
from fovea.errors import DataError
from fovea.registry import Registry

_DIGITS = tuple("0123456789")
_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_KMNIST = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")  # Clanuwat et al., 2018
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
    """.split()  # noqa: SIM905
)

_IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _idx_files(bases: list[str], digests: list[str]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(f"{name}.gz", digest, tuple(f"{base}{name}.gz" for base in bases))
        for name, digest in zip(_IDX_FILES, digests, strict=True)
    )


@dataclass(frozen=True)
class CatalogEntry:
    """One named data set.

    Attributes:
        classes: the class names in label order; None: the files say them.
        kind: "photos" where mirrored images keep their class, else "characters".
        places: where it may lie below a search folder, the likeliest first.
        files: what is downloaded where none of these is there; empty: it cannot be.
        contents: digests (sha256 or md5) of the decoded content in the order train images, train labels, test images,
            test labels (as IDX) or of batches of records (CIFAR).
        file_digests: name -> digest (sha256 or md5) of other official files.
        idx_set: the prefix of the set's files among several.
        wrong_test_labels: how many labels of the published test set are known to be wrong (Northcutt, Athalye and
            Mueller, arXiv 2103.14749); None where nobody has counted.
    """

    classes: tuple[str, ...] | None
    kind: str
    description: str
    places: tuple[str, ...] = ()
    files: tuple[RemoteFile, ...] = ()
    contents: tuple[str, ...] = ()
    file_digests: Mapping[str, str] = field(default_factory=dict)
    idx_set: str | None = None
    wrong_test_labels: int | None = None


_EMNIST_ZIP = RemoteFile(
    "gzip.zip",
    "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
    (
        "https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",
        "https://www.itl.nist.gov/iaui/vip/cs_links/EMNIST/gzip.zip",
    ),
    561_753_746,
)
_EMNIST_COUNTS = {
    "balanced": "112,800 + 18,800 grey 28x28 digits and letters, 47 classes",
    "byclass": "697,932 + 116,323 grey 28x28 digits and letters, 62 classes",
    "bymerge": "697,932 + 116,323 grey 28x28 digits and letters, 47 classes",
    "digits": "240,000 + 40,000 grey 28x28 handwritten digits",
    "letters": "124,800 + 20,800 grey 28x28 handwritten letters, 26 classes",
    "mnist": "60,000 + 10,000 grey 28x28 handwritten digits",
}


def _emnist(name: str) -> CatalogEntry:
    places = ("emnist", "EMNIST/raw", "EMNIST", "emnist/gzip", "emnist/gzip.zip", "gzip.zip")
    return CatalogEntry(
        EMNIST_CLASSES[name],
        "characters",
        f"EMNIST {name}: {_EMNIST_COUNTS[name]}",
        (f"emnist-{name}", *places),
        (_EMNIST_ZIP,),
        idx_set=f"emnist-{name}",
    )


def _cifar(classes: int, python: tuple[str, int | None], binary: tuple[str, int | None]) -> tuple[RemoteFile, ...]:
    bases = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")
    return tuple(
        RemoteFile(
            f"cifar-{classes}-{form}.tar.gz", digest, tuple(f"{b}cifar-{classes}-{form}.tar.gz" for b in bases), n
        )
        for form, (digest, n) in (("binary", binary), ("python", python))
    )


_CIFAR10_FILES = _cifar(
    10,
    ("6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce", 170_498_071),
    ("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd", 170_052_171),
)
_CIFAR100_FILES = _cifar(
    100,
    ("85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7", None),
    ("58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec", 168_513_733),
)


CATALOG: Registry[CatalogEntry] = Registry(
    "data set",
    {
        "digits": CatalogEntry(
            _DIGITS,
            "characters",
            "1,797 grey 8x8 digits, embedded in scikit-learn: no file needed",
        ),
        "mnist": CatalogEntry(
            _DIGITS,
            "characters",
            "60,000 + 10,000 grey 28x28 handwritten digits",
            ("mnist", "MNIST/raw", "mnist.npz", "npz/mnist.npz"),
            _idx_files(
                [
                    "https://ossci-datasets.s3.amazonaws.com/mnist/",
                    "https://storage.googleapis.com/cvdf-datasets/mnist/",
                ],
                [
                    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                ],
            ),
            (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
            wrong_test_labels=15,
        ),
        "fashion-mnist": CatalogEntry(
            _FASHION,
            "photos",
            "60,000 + 10,000 grey 28x28 articles of clothing",
            ("fashion-mnist", "FashionMNIST/raw", "fashion-mnist.npz", "npz/fashion-mnist.npz"),
            _idx_files(
                [
                    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
                ],
                [
                    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                ],
            ),
            (
                "f4a8712d7a061bf5bd6d2ca38dc4d50a",
                "9018921c3c673c538a1fc5bad174d6f9",
                "8181f5470baa50b63fa0f6fddb340f0a",
                "15d484375f8d13e6eb1aabb0c3f46965",
            ),
        ),
        "kmnist": CatalogEntry(
            _KMNIST,
            "characters",
            "60,000 + 10,000 grey 28x28 cursive Japanese characters",
            ("kmnist", "KMNIST/raw", "kmnist.npz", "npz/kmnist.npz"),
            _idx_files(
                ["https://codh.rois.ac.jp/kmnist/dataset/kmnist/", "http://codh.rois.ac.jp/kmnist/dataset/kmnist/"],
                [
                    "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
                    "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
                    "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
                    "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
                ],
            ),
        ),
        "cifar10": CatalogEntry(
            _CIFAR10,
            "photos",
            "50,000 + 10,000 colour 32x32 photographs, 10 classes",
            (
                "cifar10",
                "cifar-10-batches-bin",
                "cifar-10-batches-py",
                "cifar-10-binary.tar.gz",
                "cifar-10-python.tar.gz",
                "cifar10.npz",
                "npz/cifar10.npz",
            ),
            _CIFAR10_FILES[:1],
            (
                "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
                "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
                "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
                "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
                "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
                "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
            ),
            wrong_test_labels=54,
        ),
        "cifar100": CatalogEntry(
            _CIFAR100,
            "photos",
            "50,000 + 10,000 colour 32x32 photographs, 100 classes",
            ("cifar100", "cifar-100-binary", "cifar-100-python", "cifar-100-binary.tar.gz", "cifar-100-python.tar.gz"),
            _CIFAR100_FILES[:1],
            file_digests={
                _CIFAR100_FILES[1].name: _CIFAR100_FILES[1].sha256,
                "train": "16019d7e3df5f24257cddd939b257f8d",
                "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            },
            wrong_test_labels=585,
        ),
        **{f"emnist-{name}": _emnist(name) for name in EMNIST_CLASSES},
        "digit-recognizer": CatalogEntry(
            _DIGITS,
            "characters",
            "42,000 grey 28x28 digits, Kaggle's competition: download train.csv there",
            ("digit-recognizer",),
        ),
    },
)


def known_wrong_labels(raw: RawData, num_test_images: int) -> int | None:
    """How many test labels of a published set are known to be wrong; None where it is no whole published test set.

    Args:
        num_test_images: of the test split that was made of it.
    """
    if raw.name not in CATALOG or not raw.known or "test" not in raw.parts:
        return None
    return CATALOG[raw.name].wrong_test_labels if len(raw.parts["test"].images) == num_test_images else None


def read_named(name: str, options: ReadOptions) -> RawData:
    """Read a data set of the catalog; what is not found is downloaded.

    Raises:
        DataError: when its files are damaged, or not found where downloads are off or impossible.
        RunFailedError: when the download failed.
        SettingsError: when no data set has this name.
    """
    entry = CATALOG[name]
    if name == "digits":
        return replace(_read_digits(), classes=entry.classes, kind=entry.kind, known=True)
    place = _find(entry) or _download(name, entry, options)
    raw = _read(entry, place, options)
    known = is_published(
        raw, entry.contents, {file.name: file.sha256 for file in entry.files} | dict(entry.file_digests)
    )
    notes = raw.notes if known is not False else [*raw.notes, _unknown_content(name, place)]
    classes = raw.classes if options.label_column == "coarse" else entry.classes or raw.classes
    return replace(raw, name=name, classes=classes, kind=entry.kind, notes=notes, known=known)


def _unknown_content(name: str, place: Path) -> str:
    return (
        f"{place} is not the published {name}, byte for byte (another order, another version, or a damaged copy): "
        "it is used as it is, and its figures do not compare with published ones"
    )


def _read(entry: CatalogEntry, place: Path, options: ReadOptions) -> RawData:
    if entry.idx_set is None:
        return read_path(place, options)
    with tree_at(place) as tree:
        return replace(read_idx_files(one_set(tree, entry.idx_set), options), place=place)


def _find(entry: CatalogEntry) -> Path | None:
    for folder in search_folders():
        for place in entry.places:
            path = folder / place
            if not path.exists() or not _holds(entry, path):
                continue
            packed = path / entry.files[0].name if len(entry.files) == 1 else path
            return packed if packed.is_file() else path
    return None


def _holds(entry: CatalogEntry, path: Path) -> bool:
    """Whether a place holds the set, and not just a part of its download."""
    if path.is_file():
        return True
    files = [child for child in path.iterdir() if child.is_file() and not child.name.startswith(".")]
    there = [(path / file.name).exists() or (path / file.name).with_suffix("").exists() for file in entry.files]
    if len(there) > 1 and any(there) and not all(there) and path.parent == cache_folder():
        return False
    if entry.idx_set is not None and not any(path.rglob(f"{entry.idx_set}-*")):
        return False
    return any(child.suffix != ".part" for child in files)


def _download(name: str, entry: CatalogEntry, options: ReadOptions) -> Path:
    try:
        folder = cache_folder() / ("emnist" if entry.idx_set else name)
    except RuntimeError as error:
        raise DataError(f"There is no cache folder to download {name} to ({error}): set XDG_CACHE_HOME.") from None
    if not entry.files:
        raise DataError(
            f"The data set {name!r} was not found in {', '.join(map(str, search_folders()))}, and it cannot be "
            f"downloaded without an account: {entry.description}. Put it into {folder}, or set FOVEA_DATA."
        )
    searched = ", ".join(map(str, search_folders()))
    by_hand = f"It was looked for in {searched}. {by_hand_message(name, entry.files, folder)}"
    fetch(name, entry.files, folder, by_hand, options.progress)
    return folder / entry.files[0].name if len(entry.files) == 1 else folder


def _read_digits() -> RawData:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.asarray(bunch.images)
    return RawData(
        "digits", "scikit-learn", {"train": RawSet(images, np.asarray(bunch.target), np.arange(len(images)))}
    )
