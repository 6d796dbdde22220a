"""Images in folders: which files are found, as which class, in which order."""

import os

import numpy as np
import pytest
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.utils import Bunch

from sklearn_protopnet.datasets import load_image_folder


def make(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.fixture
def pets(tmp_path):
    return make(
        tmp_path / "pets", "dog/rex.png", "cat/tom.JPG", "cat/Garfield.jpeg", "mouse/jerry.webp"
    )


def found(root, **options):
    """Paths within the root, each with the name of its class."""
    bunch = load_image_folder(root, **options)
    paths = [os.path.relpath(path, root) for path in bunch.data]
    return [
        (path, bunch.target_names[label]) for path, label in zip(paths, bunch.target, strict=True)
    ]


def test_folder_is_the_class(pets):
    bunch = load_image_folder(pets)
    assert isinstance(bunch, Bunch)
    assert bunch.target_names == ["cat", "dog", "mouse"]
    assert bunch.data.tolist() == [
        str(pets / "cat" / "Garfield.jpeg"),
        str(pets / "cat" / "tom.JPG"),
        str(pets / "dog" / "rex.png"),
        str(pets / "mouse" / "jerry.webp"),
    ]
    assert bunch.data.dtype.kind == "U"
    assert bunch.target.tolist() == [0, 0, 1, 2]
    assert bunch.target.dtype == np.int64
    assert bunch.filenames.tolist() == bunch.data.tolist()
    assert f"4 images of 3 classes, one folder each, in {str(pets)!r}." == bunch.DESCR


def test_data_and_target_may_be_had_alone(pets):
    data, target = load_image_folder(pets, return_X_y=True)
    bunch = load_image_folder(str(pets))
    np.testing.assert_array_equal(data, bunch.data)
    np.testing.assert_array_equal(target, bunch.target)


def test_relative_folder_gives_relative_paths(pets, monkeypatch):
    monkeypatch.chdir(pets.parent)
    assert load_image_folder("pets").data[0] == os.path.join("pets", "cat", "Garfield.jpeg")


def test_folders_within_a_class_belong_to_it(tmp_path):
    make(tmp_path, "a/2.png", "a/10.png", "a/x/y/deep.png", "a/x/0.png", "b/0.png")
    assert found(tmp_path) == [
        ("a/10.png", "a"),
        ("a/2.png", "a"),
        ("a/x/0.png", "a"),
        ("a/x/y/deep.png", "a"),
        ("b/0.png", "b"),
    ]


def test_what_is_hidden_or_no_image_is_passed_over(tmp_path):
    make(
        tmp_path,
        *("a/1.png", "a/.2.png", "a/.cache/3.png", "a/notes.txt", "a/png", "a/.png", "a/4.png.gz"),
        *("a/5.pdf", "a/6.mpg", "a/7.eps", "a/8.h5", "a/9.palm", ".git/a.png", "loose.png"),
    )
    assert found(tmp_path) == [("a/1.png", "a")]


def test_images_are_what_pillow_opens(tmp_path):
    extensions = [
        *("png", "jpg", "jpeg", "jfif", "bmp", "gif", "tif", "tiff", "webp", "jp2"),
        *("pgm", "ppm", "pbm", "tga", "PNG", "JpG"),
        *(["avif"] if ".avif" in Image.registered_extensions() else []),  # since Pillow 11.3
    ]
    make(tmp_path, *(f"a/{number:02}.{name}" for number, name in enumerate(extensions)))
    make(tmp_path, *(f"a/x.{name}" for name in ("pdf", "mpg", "ps", "eps", "h5", "wmf", "palm")))
    expected = [(f"a/{number:02}.{name}", "a") for number, name in enumerate(extensions)]
    assert found(tmp_path) == expected


@pytest.mark.parametrize("extensions", [[".fits"], ("FITS",), {".Fits"}])
def test_extensions_of_the_user_replace_those_of_pillow(tmp_path, extensions):
    make(tmp_path, "a/1.png", "a/2.fits", "a/3.FITS")
    assert found(tmp_path, allowed_extensions=extensions) == [("a/2.fits", "a"), ("a/3.FITS", "a")]


@pytest.mark.parametrize(
    "categories", [["mouse", "cat"], ("cat", "mouse", "cat"), {"cat", "mouse"}]
)
def test_categories_are_numbered_by_name(pets, categories):
    bunch = load_image_folder(pets, categories=categories)
    assert bunch.target_names == ["cat", "mouse"]
    assert bunch.target.tolist() == [0, 0, 1]


def test_categories_leave_other_folders_unread(pets):
    (pets / "empty").mkdir()
    assert load_image_folder(pets, categories=["dog"]).target.tolist() == [0]


def test_linked_folders_are_followed_once(tmp_path):
    root = make(tmp_path / "root", "a/1.png", "b/2.png")
    elsewhere = make(tmp_path / "elsewhere", "3.png")
    (root / "a" / "more").symlink_to(elsewhere)
    (root / "a" / "zz_again").symlink_to(elsewhere)
    (root / "c").symlink_to(elsewhere)
    assert found(root) == [
        ("a/1.png", "a"),
        ("a/more/3.png", "a"),
        ("b/2.png", "b"),
        ("c/3.png", "c"),
    ]


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_circle_of_links_ends(tmp_path, target):
    root = make(tmp_path / "root", "a/x/1.png", "b/2.png")
    (root / "a" / "x" / "loop").symlink_to(target)
    (root / "b" / "self").symlink_to("self")
    assert found(root) == [("a/x/1.png", "a"), ("b/2.png", "b")]


def test_only_regular_files_are_images(tmp_path):
    root = make(tmp_path / "root", "a/1.png", "b/2.png")
    os.mkfifo(root / "a" / "pipe.png")
    (root / "a" / "nowhere.png").symlink_to("nothing.png")
    (root / "a" / "itself.png").symlink_to("itself.png")
    (root / "a" / "null.png").symlink_to("/dev/null")
    (root / "a" / "other.png").symlink_to(root / "b" / "2.png")
    (root / "c").symlink_to("c")
    (root / "a" / "folder.png").mkdir()
    assert found(root) == [("a/1.png", "a"), ("a/other.png", "a"), ("b/2.png", "b")]


def test_names_of_any_kind_are_classes(tmp_path):
    make(tmp_path, "Bär [1]/größe ä.png", "熊/1 2.png")
    assert found(tmp_path) == [
        (os.path.join("Bär [1]", "größe ä.png"), "Bär [1]"),
        (os.path.join("熊", "1 2.png"), "熊"),
    ]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_that_are_no_text_are_found(tmp_path):
    make(tmp_path, "a/1.png")
    try:
        make(tmp_path, os.fsdecode(b"a/\xff.png"))
    except OSError:
        pytest.skip("the file system allows text only")
    paths = load_image_folder(os.fsencode(tmp_path)).data
    assert len(paths) == 2
    assert all(os.path.exists(path) for path in paths)
    make(tmp_path, os.fsdecode(b"caf\xe9/1.png"))
    for categories in (None, [os.fsdecode(b"caf\xe9")]):
        with pytest.raises(ValueError, match=r"names in UTF-8, found 'caf\\udce9' in .* Rename it"):
            load_image_folder(tmp_path, categories=categories)
    assert load_image_folder(tmp_path, categories=["a"]).target_names == ["a"]


def test_a_missing_folder_is_named(tmp_path):
    make(tmp_path, "a.png")
    for path in (tmp_path / "nowhere", tmp_path / "a.png"):
        with pytest.raises(FileNotFoundError, match="one folder per class, found no folder at"):
            load_image_folder(path)


def test_a_folder_without_classes_is_refused(tmp_path):
    make(tmp_path, "a.png", ".hidden/b.png")
    with pytest.raises(ValueError, match=r"found no folders in .* Move the images"):
        load_image_folder(tmp_path)


def test_class_without_images_is_named(pets):
    make(pets, "unicorn/readme.txt")
    with pytest.raises(ValueError, match=r"found none in '.*unicorn' .*\.png.* Remove the folder"):
        load_image_folder(pets)


def test_categories_that_do_not_exist_are_named(pets):
    with pytest.raises(ValueError, match=r"at least one, found 'emu', 'yak'\."):
        load_image_folder(pets, categories=["yak", "cat", "emu"])
    with pytest.raises(ValueError, match=r"at least one, found none\."):
        load_image_folder(pets, categories=[])


@pytest.mark.parametrize("parameter", ["categories", "allowed_extensions"])
def test_names_and_extensions_are_lists_of_str(pets, parameter):
    with pytest.raises(TypeError, match=rf"{parameter} must be a list of str, .* Use \['cat'\]"):
        load_image_folder(pets, **{parameter: "cat"})
    for wrong in ([5], ["cat", None], [b"cat"], 5):
        with pytest.raises(
            TypeError, match=f"{parameter} must be a list of str, got (5|None|b'cat')"
        ):
            load_image_folder(pets, **{parameter: wrong})


@pytest.mark.parametrize("path", [None, 5, ["pets"]])
def test_a_folder_is_a_path(path):
    with pytest.raises(TypeError, match="container_path must be a path, got"):
        load_image_folder(path)


class ByFirstLetter(ClassifierMixin, BaseEstimator):
    """Takes paths and knows the class by the name of the file."""

    def __init__(self, offset=0):
        self.offset = offset

    def fit(self, X, y):
        assert all(isinstance(path, str) for path in X)
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.array(["ab".index(os.path.basename(path)[0]) for path in X]) + self.offset


def test_paths_pass_through_scikit_learn(tmp_path):
    make(tmp_path, *(f"{name}/{name}{number}.png" for name in "ab" for number in range(6)))
    X, y = load_image_folder(tmp_path, return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    search = GridSearchCV(ByFirstLetter(), {"offset": [1, 0]}, cv=3).fit(X_train, y_train)
    assert search.best_params_ == {"offset": 0}
    assert search.score(X_test, y_test) == 1.0
