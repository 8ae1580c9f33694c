"""Recipes: profiles are valid, overrides reach their field, mistakes are named."""

from __future__ import annotations

import pytest

from biasbench.errors import UsageError
from biasbench.recipe import load_recipe, profiles


@pytest.mark.parametrize("name", profiles())
def test_every_profile_is_valid_and_knows_its_name(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.stages[0].train == ("fc6" if name == "alvi2018" else "head")


def test_the_recipe_of_alvi_is_the_published_one_where_it_is_published() -> None:
    recipe = load_recipe("alvi2018")
    (stage,) = recipe.stages
    assert (stage.optimizer, stage.lr, stage.head_lr, stage.train) == ("sgd", 1e-4, 10.0, "fc6")
    assert recipe.class_weights
    assert recipe.embeddings


def test_the_paper_profile_is_the_published_protocol() -> None:
    recipe = load_recipe("paper")
    assert [(s.train, s.lr, s.batch_size, s.norm) for s in recipe.stages] == [
        ("head", 1e-4, 32, "batch"),
        ("all", 5e-6, 32, "batch"),
    ]
    assert (recipe.views, recipe.protocol, recipe.pixels, recipe.cache) == (5, "wang2019", "native", False)


def test_overrides() -> None:
    recipe = load_recipe("short", {"crop": 64, "stages.1.lr": 1e-5})
    assert recipe.crop == 64
    assert recipe.stages[1].lr == 1e-5
    assert recipe.stages[0].lr == load_recipe("short").stages[0].lr


@pytest.mark.parametrize(
    ("profile", "overrides", "said"),
    [
        ("shrt", {}, "Did you mean 'short'"),
        ("short", {"crap": 1}, "recipe.crap: Extra inputs are not permitted. Did you mean 'crop'"),
        ("short", {"crop": "big"}, "recipe.crop"),
        ("short", {"stages.7.lr": 1e-3}, "leads nowhere"),
        ("short", {"stages.0.lr": -1.0}, "recipe.stages.0.lr"),
        ("short", {"stages.0.lr": float("nan")}, "recipe.stages.0.lr"),
        ("short", {"name.x": 1}, "leads nowhere"),
    ],
)
def test_mistakes_are_named(profile: str, overrides: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(profile, overrides)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_other_name_is_proposed_for_one_that_exists() -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("short", {"stages.0.lr": -1.0})
    assert "Did you mean" not in str(caught.value)
    assert "Fields:" not in str(caught.value)


def test_all_mistakes_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe("short", {"crop": "big", "stages.0.epochs": -3, "views": "x"})
    assert all(f in str(caught.value) for f in ("recipe.crop", "recipe.stages.0.epochs", "recipe.views"))
