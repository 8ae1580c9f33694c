"""`biasbench plot histogram`, `embedding`, `distribution` and `training`: the figures of Alvi et al. 2018."""

from __future__ import annotations

from pathlib import Path

import click

from biasbench.cli.options import data_root_option, json_option, plugin_option, results_option
from biasbench.cli.plot import dataset_option, numbered, output_option, ready

methods_option = click.option(
    "--method", "-m", "methods", multiple=True, metavar="METHOD", required=True,
    help="As it was typed in the run. Repeatable: side by side, in the order given.",
)  # fmt: skip
before_option = click.option("--before", metavar="METHOD", default="original", help="What it is compared with.")
by_option = click.option(
    "--by", metavar="ATTRIBUTE", help="Groups to compare.  [default: the attribute that was measured first]"
)


@click.command("histogram")
@click.option("--dataset", "-d", metavar="DATASET", required=True, help="Data set, with options in parentheses.")
@click.option("--of", metavar="ATTRIBUTE", default="label", help="What is counted: an attribute, or label, the task.")
@click.option(
    "--by", metavar="ATTRIBUTE",
    help="Groups to compare: an attribute, or label.  [default: the data set's primary attribute]",
)  # fmt: skip
@data_root_option
@output_option("histogram")
@plugin_option
@json_option
def histogram_command(
    dataset: str,
    of: str,
    by: str | None,
    data_roots: tuple[Path, ...],
    outputs: tuple[Path, ...],
    plugin_files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Classes of each group of a data set, and their difference.

    Figures 2 and 4 of Alvi et al. 2018. By split, as percent of the group's examples. Below: the first
    group less the second in points; of more than two groups, each less their mean. No image is
    opened. A biased set is shown by -d "imdb(task='gender', bias='eb1')" --of age --by gender.
    """
    from biasbench.cli.leakage import check_plot
    from biasbench.cli.output import emit, emit_json
    from biasbench.cli.plot_faces_runs import histograms
    from biasbench.cli.plot_faces_text import histogram_json, histogram_text
    from biasbench.cli.progress import Counter
    from biasbench.config import load_settings
    from biasbench.locate import open_dataset
    from biasbench.planned import Data
    from biasbench.plots.histogram import draw_histogram
    from biasbench.plugins import load_plugins

    for path in outputs:
        check_plot(path)
    with Counter(f"{dataset}: index") as progress:
        opened, text = open_dataset(
            dataset, load_plugins(plugin_files), load_settings(data=data_roots), progress=progress
        )
    found, groups = histograms(Data(dataset.strip(), text, opened, None), of, by)
    for path in outputs:
        draw_histogram(path, found, f"{dataset.strip()}: {of} by {groups}", of, groups)
    if as_json:
        splits = {split: histogram_json(h) for split, h in found.items()}
        emit_json("histogram", {"dataset": text, "of": of, "by": groups, "splits": splits})
    else:
        emit(histogram_text(found, f"{text}: {of} by {groups}"))


@click.command("embedding")
@results_option
@dataset_option
@methods_option
@before_option
@click.option("--by", metavar="ATTRIBUTE", help="What is coloured: an attribute, or label.  [default: the attribute "
              "that was measured first]")  # fmt: skip
@click.option("--seed", type=int, metavar="INT", help="Of the runs.  [default: the lowest that all methods have]")
@click.option("--points", type=click.IntRange(min=3), metavar="N", default=1000, help="At most, as many of each group "
              "as can be.")  # fmt: skip
@click.option("--perplexity", type=click.FloatRange(min=1), metavar="NUMBER", default=30.0, help="Of t-SNE.")
@output_option("embedding")
def embedding_command(
    results: Path | None,
    dataset: str | None,
    methods: tuple[str, ...],
    before: str,
    by: str | None,
    seed: int | None,
    points: int,
    perplexity: float,
    outputs: tuple[Path, ...],
) -> None:
    """Test embeddings in the plane, before and after.

    Figure 5 of Alvi et al. 2018, by t-SNE, of the same examples for each method. Needs runs that kept
    their embeddings: biasbench run --set recipe.embeddings=true. What the picture shows is no measure:
    the metric embedding is.
    """
    import numpy as np

    from biasbench.cli.output import note
    from biasbench.cli.plot_faces_runs import evaluated, runs_alike, two_groups
    from biasbench.errors import UsageError, printable
    from biasbench.plots.embedding import draw_embedding, project
    from biasbench.plots.grid import choose_rows

    store = ready(results, outputs)
    wanted = tuple(dict.fromkeys((before, *methods)))
    drawn = []
    for title, runs in runs_alike(store, dataset, wanted, seed):
        first = min(next(iter(runs.values())))
        read = {
            m: found[first] for m, found in evaluated(store, {m: {first: s[first]} for m, s in runs.items()}).items()
        }
        kept = {m: t.embedding for m, t in read.items() if t.embedding is not None}
        if len(kept) == len(read):
            name, codes, groups = next(iter(read.values())).codes(by)
            two_groups(codes, groups, name)
            rows = choose_rows(codes, np.ones(len(codes), bool), points, 0)
            panels = {m: project(x[rows], perplexity, m) for m, x in kept.items()}
            drawn.append((f"{title}, seed {first}, test split: {name}", panels, codes[rows], groups))
    if not drawn:
        raise UsageError(
            f"no runs of {' and '.join(repr(printable(m)) for m in wanted)} kept their embeddings",
            fix="Run them again with --set recipe.embeddings=true",
        )
    for number, (title, panels, codes, groups) in enumerate(drawn, 1):
        for path in numbered(outputs, number, len(drawn)):
            draw_embedding(path, panels, codes, groups, title)
        note(f"{len(codes)} points of {printable(title)}")


@click.command("distribution")
@results_option
@dataset_option
@methods_option
@before_option
@by_option
@click.option("--over", metavar="ATTRIBUTE", help="Where the examples of each predicted class lie, by this attribute; "
              "in place of --by.")  # fmt: skip
@click.option("--seed", type=int, metavar="INT", help="Only this seed.  [default: all, means and their range]")
@output_option("distribution")
@json_option
def distribution_command(
    results: Path | None,
    dataset: str | None,
    methods: tuple[str, ...],
    before: str,
    by: str | None,
    over: str | None,
    seed: int | None,
    outputs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Predicted classes of each group against the truth.

    Figures 6 and 7 of Alvi et al. 2018. With --over age, and gender as the task: the ages of those who
    are predicted to be a woman, and a man. KL is the divergence between two groups' lines in nats, the
    mean of both directions and over all pairs of groups, as the metric classes gives it.
    """
    from biasbench.cli.output import emit, emit_json
    from biasbench.cli.plot_faces_runs import LABEL, evaluated, runs_alike, seeds_of, two_groups
    from biasbench.cli.plot_faces_text import distribution_json, distribution_text
    from biasbench.errors import UsageError
    from biasbench.plots.distribution import distribution, draw_distribution

    if by is not None and over is not None:
        raise UsageError("--by and --over say different things", fix="--over compares predicted classes; --by groups")
    store = ready(results, outputs)
    drawn = []
    for title, runs in runs_alike(store, dataset, tuple(dict.fromkeys((before, *methods))), seed):
        read = evaluated(store, runs)
        any_run = next(iter(next(iter(read.values())).values()))
        truth, classes = any_run.classes(), tuple(any_run.manifest["label_names"])
        name, codes, groups = any_run.codes(by if over is None else over)
        if name == LABEL:
            raise UsageError("label is what is predicted", fix="Name a protected attribute")
        two_groups(codes, groups, name)
        panels = {}
        for method, seeds in read.items():
            if over is None:
                said = [(t.labels, codes) for t in seeds.values()]
                panels[method] = distribution(said, (truth, codes), classes, groups)
            else:
                said = [(codes, t.labels) for t in seeds.values()]
                panels[method] = distribution(said, (codes, truth), groups, classes)
        axes = ("predicted class", f"% of each {name}") if over is None else (name, "% of each predicted class")
        drawn.append((f"{title}, {seeds_of(next(iter(runs.values())))}, test split", panels, axes))
    for number, (title, panels, axes) in enumerate(drawn, 1):
        for path in numbered(outputs, number, len(drawn)):
            draw_distribution(path, panels, title, *axes)
    if as_json:
        pictures = [
            {"title": t, "x": x, "y": y, "methods": {m: distribution_json(d) for m, d in p.items()}}
            for t, p, (x, y) in drawn
        ]
        emit_json("distribution", {"pictures": pictures})
    else:
        emit("\n\n".join(distribution_text(title, panels) for title, panels, _ in drawn))


@click.command("training")
@results_option
@dataset_option
@click.option("--method", "-m", metavar="METHOD", required=True, help="As it was typed in the run.")
@before_option
@click.option("--seed", type=int, metavar="INT", help="Only this seed.  [default: all, means and their range]")
@output_option("training")
@json_option
def training_command(
    results: Path | None,
    dataset: str | None,
    method: str,
    before: str,
    seed: int | None,
    outputs: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Task and spurious attributes by epoch of a training.

    Figure 8 of Alvi et al. 2018, on the validation split. Class-mean accuracies that the method
    diagnoses, as jlu and adversaries do, are rescaled: chance is 0, perfection 100 (Eq. 6). Of an
    attribute of another data set the score in training is shown, since the validation split has no
    labels of it. Dotted: F1 of the plain model that was kept.
    """
    from biasbench.cli.output import emit, emit_json, note
    from biasbench.cli.plot_faces_runs import runs_alike, seeds_of
    from biasbench.cli.plot_faces_text import training_json, training_text
    from biasbench.cli.plot_faces_training import training_of
    from biasbench.errors import printable
    from biasbench.plots.training import draw_training

    store = ready(results, outputs)
    drawn = []
    for title, runs in runs_alike(store, dataset, (method,), seed, before):
        found = training_of(store, runs, method, before)
        if before not in runs:
            note(f"no run of {printable(before)} beside it")
        if found.left_out:
            note(f"not drawn, of an unknown attribute: {printable(', '.join(found.left_out))}")
        drawn.append((f"{title}, {seeds_of(runs[method])}", found))
    for number, (title, found) in enumerate(drawn, 1):
        for path in numbered(outputs, number, len(drawn)):
            draw_training(path, found, title, method, before)
    if as_json:
        emit_json("training", {"method": method, "before": before,
                               "pictures": [{"title": t, **training_json(f)} for t, f in drawn]})  # fmt: skip
    else:
        emit("\n\n".join(training_text(title, found) for title, found in drawn))
