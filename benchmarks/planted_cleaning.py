"""Cleaning where the errors are known: `python benchmarks/planted_cleaning.py FOLDER`; Alvi et al. 2018, section 3.2.

IMDB's labels are those of the actor whose page a photo is from, whoever the face in it belongs to. FOLDER gets a data
set in IMDB's format whose photos are the drawings of `faces`: half of them show somebody else than they are labelled
as. Most of these show two faces or a poor one, as far as the detector says, and some of the right ones too. Another
system guesses gender and age from what is drawn; it errs now and then. Printed is how many labels each rule of
cleaning keeps, and what share of their genders is right. Then

    biasbench run FOLDER/cleaning.toml --data-root FOLDER --results RESULTS

trains the classifier of gender on what each rule keeps, 20 % of the people withheld, and this again with `--results
RESULTS` tells how often it is right by the labels of the withheld, and by who is to be seen there.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from runpy import run_path

import click
import numpy as np
import pandas as pd

from biasbench import SPLITS, BiasBenchError, UsageError, generator
from biasbench.builtin.datasets.faces import Faces
from biasbench.builtin.datasets.imdb import Imdb
from biasbench.store import Store
from biasbench.truth import read_predictions

IMDB = run_path(str(Path(__file__).parents[1] / "tests" / "helpers" / "face_files.py"))

SOMEBODY_ELSE = 0.5  # of the photos: a quarter of the genders is then wrong, where women are as many as men
SECOND_FACE = {True: 0.1, False: 0.6}  # of the photos that show whom they should, and of the others
POOR_FACE = {True: 0.05, False: 0.15}  # likewise, a score below 1
MISTAKEN, YEARS = 0.03, 4.0  # of the other system: genders, and standard deviation of its ages
AGES = {"child": (6, 15), "adult": (20, 35), "middle-aged": (38, 55), "older": (62, 80)}

SHOWN = "shown.csv"

BENCHMARK = """name = "planted-cleaning"
help = "Gender before and after cleaning, errors planted"
datasets = [
    {datasets},
]
backbones = ["tf_efficientnet_lite0(fc=(256, 128))"]
seeds = [0, 1, 2]
profile = "alvi2018"
protocol = "quick"
metrics = ["classes"]
attributes = ["age"]

[recipe]
short_side = 96
crop = 88

[[recipe.stages]]
train = "fc6"
epochs = 10
lr = 1e-3
head_lr = 1.0
optimizer = "adam"
batch_size = 64

[[rows]]
method = "original"
"""
RULES = {
    "none": {"clean": "none"},
    "score": {"clean": "score"},
    "predictions": {"clean": "predictions", "predictions": "guesses.csv"},
}


def drawn(folder: Path, photos: int) -> pd.DataFrame:
    """Faces of whom there are as many women as men: columns file, gender, age, person, and years within the age."""
    whole = {"train": photos, "val": 8, "test": 8}
    faces = Faces(folder / "drawn", folder / "cache", task="gender", **whole)  # type: ignore[arg-type]
    faces.prepare()
    found = pd.read_csv(faces.root / "faces_label_train.csv")
    rng = generator("planted cleaning", "years")
    found["years"] = [int(rng.integers(*AGES[age])) for age in found["age"]]
    return found


def plant(faces: pd.DataFrame) -> pd.DataFrame:
    """What each photo shows beside what it is labelled as.

    Returns:
        A row a photo: person, gender, years and year as labelled; shown and file, the face that is there; what the
        detector and the other system say of it.
    """
    rng = generator("planted cleaning", "errors")
    n = len(faces)
    right = rng.random(n) >= SOMEBODY_ELSE
    there, wrong = np.arange(n), np.flatnonzero(~right)
    there[wrong] = rng.permutation(wrong)  # no drawing stands twice
    shown = faces.iloc[there].reset_index(drop=True)
    born = {person: int(rng.integers(1900, 1930)) for person in dict.fromkeys(faces["person"])}
    photos = faces[["person", "gender", "years"]].copy()
    photos["year"] = photos["person"].map(born) + photos["years"]  # one date of birth a person, as in the release
    photos["file"], photos["shown"] = shown["file"], shown["gender"]
    photos["second"] = [2.0 if rng.random() < SECOND_FACE[bool(ok)] else float("nan") for ok in right]
    photos["score"] = [0.5 if rng.random() < POOR_FACE[bool(ok)] else 3.0 for ok in right]
    mistaken = rng.random(n) < MISTAKEN
    photos["guess"] = shown["gender"].where(~mistaken, shown["gender"].map({"man": "woman", "woman": "man"}))
    photos["guessed years"] = (shown["years"] + YEARS * rng.standard_normal(n)).clip(0, 100).round(1)
    return photos


def write(folder: Path, photos: pd.DataFrame) -> pd.DataFrame:
    """The data set in its released format and the other system's guesses; the photos by their `full_path`."""
    files = IMDB["ImdbFiles"]()
    codes = {"man": IMDB["MALE"], "woman": IMDB["FEMALE"]}
    paths = [
        files.add(p.person, p.years, codes[p.gender], year=p.year, score=p.score, second=p.second)
        for p in photos.itertuples()
    ]
    mat = files.write(folder)
    for path, file in zip(paths, photos["file"], strict=True):
        (mat.parent / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / "drawn" / file, mat.parent / path)
    photos = photos.set_axis(paths)
    guesses = pd.DataFrame({"file": paths, "gender": photos["guess"], "age": photos["guessed years"]})
    guesses.to_csv(folder / "guesses.csv", index=False)
    photos["shown"].to_csv(folder / SHOWN)
    return photos


def kept(folder: Path, photos: pd.DataFrame) -> pd.DataFrame:
    """By rule: photos that the reader keeps, of whom withheld, and the percent whose gender is right."""
    rows = {}
    for rule, options in RULES.items():
        data = Imdb(folder, folder / "cache", task="gender", balanced=False, **options)  # type: ignore[arg-type]
        tables = {split: data.table(split) for split in SPLITS}
        every = photos.loc[[str(one) for table in tables.values() for one in table["id"]]]
        right = (every["gender"] == every["shown"]).mean()
        rows[rule] = {"photos": len(every), "withheld": len(tables["test"]), "right": 100 * right}
    return pd.DataFrame(rows).T


def scored(folder: Path, store: Store) -> pd.DataFrame:
    """By data set and seed: percent right of the withheld photos, by their labels and by who is there."""
    shown = pd.read_csv(folder / SHOWN, index_col=0)["shown"].map(list(Imdb.groups["gender"]).index)
    rows = []
    for record in store.records():
        predictions, _ = read_predictions(store.run(record["key"]))
        test = predictions["test"]
        truth = shown.loc[list(test.ids)].to_numpy()
        told, there = (100 * float((test.labels == right).mean()) for right in (test.targets, truth))
        rows.append({"data": record["dataset"], "seed": record["seed"], "told": told, "there": there})
    return pd.DataFrame(rows)


def score(folder: Path, results: Path) -> None:
    """Print means and standard deviations over seeds."""
    for data, row in scored(folder, Store(results)).groupby("data")[["told", "there"]].agg(["mean", "std"]).iterrows():
        figures = {name: f"{row[name]['mean']:.1f} ± {row[name]['std']:.1f}" for name in ("told", "there")}
        click.echo(f"{data}: {figures['told']} % right by the labels, {figures['there']} % by who is there")


@click.command(help=__doc__)
@click.argument("folder", metavar="FOLDER", type=click.Path(path_type=Path))
@click.option("--photos", default=4000, show_default=True, type=click.IntRange(200), help="Before cleaning.")
@click.option("--results", type=click.Path(path_type=Path), help="Runs on FOLDER, to be judged by what it knows.")
def main(folder: Path, photos: int, results: Path | None) -> None:
    """See the text of this file."""
    try:
        if results is not None:
            return score(folder, results)
        if folder.exists() and any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty", fix="Name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        planted = write(folder, plant(drawn(folder, photos)))
        options = [{"task": "gender", **rule, "balanced": False} for rule in RULES.values()]
        calls = [f"imdb({', '.join(f'{k}={v!r}' for k, v in each.items())})" for each in options]
        (folder / "cleaning.toml").write_text(BENCHMARK.format(datasets=",\n    ".join(f'"{c}"' for c in calls)))
        for rule, row in kept(folder, planted).iterrows():
            held = f"{row.photos:.0f} photos, {row.withheld:.0f} of them withheld"
            click.echo(f"{rule}: {held}; {row.right:.1f} % of genders right")
    except BiasBenchError as error:
        click.echo(f"planted_cleaning: {error}", err=True)
        sys.exit(error.exit_code)
    return None


if __name__ == "__main__":
    main()
