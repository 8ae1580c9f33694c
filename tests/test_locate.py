"""Finding data sets, with a small data set that recognises itself by a marker file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from biasbench import data as data_module
from biasbench import locate
from biasbench.config import Settings
from biasbench.errors import DataError, UsageError
from biasbench.plugins import load_plugins

PLUGIN = '''
from pathlib import Path
import pandas as pd
from biasbench import Dataset, Entry, hookimpl

class Marked(Dataset):
    """Labels of two pictures."""
    name = "marked"
    obtain = ("make-marked --out DIR", "ask its authors")
    def __init__(self, root: Path, cache: Path, *, flavour: str = "plain", depth: int = 1) -> None:
        super().__init__(root, cache)
        self.flavour, self.depth = flavour, depth
        self.prepared = None
    @classmethod
    def recognises(cls, folder):
        return (folder / "marker").exists()
    def prepare(self, progress=None):
        self.prepared = progress
    label_names = ("dog",)
    attribute_names = {"gender": ("a", "b")}
    def table(self, split):
        return pd.DataFrame({"id": [split], "path": ["x.png"], "label/dog": [1], "attribute/gender": [0]})

class Made(Marked):
    """Makes itself."""
    name = "made"
    @classmethod
    def home(cls, cache, options):
        return cache / f"made-{options['depth']}"

@hookimpl
def biasbench_datasets():
    here = __name__
    return [Marked, Made, Entry("marked-deep", f"{here}:Marked", "", {"depth": 9})]
'''


@pytest.fixture
def plugins(tmp_path):
    file = tmp_path / "marked_plugin.py"
    file.write_text(PLUGIN)
    return load_plugins([file], entry_points=False)


def settings(tmp_path: Path, *roots: str) -> Settings:
    return Settings(tuple(tmp_path / r for r in roots), tmp_path / "r", tmp_path / "cache", {"data": "command line"})


def mark(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "marker").touch()
    return folder


def test_the_named_folder_wins_over_the_root_itself(tmp_path, plugins):
    both = settings(tmp_path, "a", "b")
    mark(tmp_path / "a")
    assert locate.open_dataset("marked", plugins, both)[0].root == tmp_path / "a"
    named = mark(tmp_path / "b" / "marked")
    assert locate.open_dataset("marked", plugins, both)[0].root == named


def test_a_folder_of_the_right_name_and_wrong_content_is_passed_over(tmp_path, plugins):
    (tmp_path / "a" / "marked").mkdir(parents=True)
    right = mark(tmp_path / "b" / "marked")
    assert locate.open_dataset("marked", plugins, settings(tmp_path, "a", "b"))[0].root == right


def test_options_and_presets_reach_the_class_and_the_canonical_text(tmp_path, plugins):
    mark(tmp_path / "a")
    at = settings(tmp_path, "a")
    dataset, text = locate.open_dataset("marked(flavour='hot')", plugins, at)
    assert (dataset.flavour, dataset.depth) == ("hot", 1)
    assert text == "marked(flavour='hot', depth=1)"
    assert dataset.cache == tmp_path / "cache"
    assert locate.open_dataset("marked-deep", plugins, at)[1] == "marked(flavour='plain', depth=9)"


def test_prepare_is_called_once_with_the_progress_or_not_at_all(tmp_path, plugins):
    mark(tmp_path / "a")
    at = settings(tmp_path, "a")

    def progress(done, total):
        raise AssertionError("nothing to report")

    assert locate.open_dataset("marked", plugins, at, progress=progress)[0].prepared is progress
    assert locate.open_dataset("marked", plugins, at, prepare=False, progress=progress)[0].prepared is None


def test_a_data_set_that_makes_itself_needs_no_root(tmp_path, plugins):
    dataset, text = locate.open_dataset("made(depth=3)", plugins, settings(tmp_path, "nowhere"))
    assert dataset.root == tmp_path / "cache" / "made-3"
    assert isinstance(dataset, data_module.Dataset)
    assert isinstance(dataset.table("val"), pd.DataFrame)
    assert text == "made(flavour='plain', depth=3)"


def test_a_missing_data_set_says_where_it_was_looked_for_and_how_to_get_it(tmp_path, plugins):
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError) as error:
        locate.open_dataset("marked", plugins, settings(tmp_path, "a", "b"))
    said = str(error.value)
    places = [tmp_path / "a" / "marked", tmp_path / "b" / "marked", tmp_path / "a", tmp_path / "b"]
    assert said == (
        f"the data set 'marked' was not found. Looked in: {', '.join(map(str, places))} "
        "(data roots from: command line). To get it: make-marked --out DIR; ask its authors."
    )
    assert error.value.exit_code == 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("markd", "Did you mean 'marked'?"),
        ("marked+made", "names 2 data sets"),
        ("marked(colour=1)", "Options: flavour: str = plain"),
        ("marked(depth='deep')", "depth: Input should be a valid integer"),
        ("marked-deep(depth=2)", "depth is set by the name itself"),
    ],
)
def test_wrong_texts_are_usage_errors(tmp_path, plugins, text, expected):
    with pytest.raises(UsageError) as error:
        locate.open_dataset(text, plugins, settings(tmp_path, "a"))
    assert expected in str(error.value)


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path, plugins, monkeypatch):
    folder = mark(tmp_path / "a")
    cls = plugins.datasets.find("marked").load()

    def refuse(_folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cls, "recognises", refuse)  # chmod does not stop root, under which tests may run
    with pytest.raises(DataError, match="cannot be looked into: Permission denied") as error:
        locate.open_dataset("marked", plugins, settings(tmp_path, "a"))
    assert error.value.where == str(folder)
