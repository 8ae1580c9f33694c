"""`biasbench leakage`: dataset leakage from labels alone, with its curve and nulls."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from biasbench.cli.options import data_root_option, json_option, leakage_options, plugin_option

if TYPE_CHECKING:
    from biasbench.measures.curve import Curve
    from biasbench.measures.figure import Figure, LeakageReport

ENDINGS = (".svg", ".png", ".pdf")


@click.command("leakage")
@click.option("--dataset", "-d", "dataset", required=True, metavar="NAME", help="Data set; options in parentheses.")
@data_root_option
@click.option("--method", "-m", metavar="METHOD", default="original", help="Choose training rows first, as alpha-1.")
@click.option(
    "--attribute", "-a", "attributes", multiple=True, metavar="NAME",
    help="Protected attribute; a*b for an intersection. Repeatable.  [default: the data set's primary one]",
)  # fmt: skip
@leakage_options
@click.option("--f1", type=click.FloatRange(0, 100), metavar="F1", help="Also for labels with this macro F1 (percent).")
@click.option(
    "--perturbation", type=click.Choice(["flips", "replacement"]),
    help="How labels get a lower F1.  [default: flips; replacement where an image has one label]",
)  # fmt: skip
@click.option("--curve", is_flag=True, help="Dataset leakage against F1 at 22 levels (Figure 4 of Wang et al. 2019).")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw the curve: .svg, .png or .pdf.")
@plugin_option
@json_option
@click.option("--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Also write the JSON there.")
@click.option("--quiet", "-q", is_flag=True, help="No progress; results and errors only.")
def leakage_command(
    dataset: str,
    data_roots: tuple[Path, ...],
    protocol: str,
    method: str,
    attributes: tuple[str, ...],
    minimum: int | None,
    f1: float | None,
    perturbation: Any,
    curve: bool,
    plot: Path | None,
    attackers: bool,
    nulls: int | None,
    no_noise: bool,
    seed: int,
    threads: int | None,
    device: str,
    plugin_files: tuple[Path, ...],
    as_json: bool,
    output: Path | None,
    quiet: bool,
) -> None:
    """Measure how much a data set's labels tell of a protected attribute.

    No image is opened. Beside the leakage stand its nulls (the attribute shuffled everywhere, or
    in training only), the attackers' last epoch, and for single labels the majority rule's closed
    form. Attackers are kept by content: the same command again is instant, and one that was
    interrupted goes on.
    """
    from biasbench.cli.output import emit, emit_json
    from biasbench.cli.progress import Counter
    from biasbench.config import load_settings
    from biasbench.labels import label_samples, measuring_seed
    from biasbench.locate import open_dataset
    from biasbench.measure import Memo
    from biasbench.measures.device import check_device
    from biasbench.measures.leakage import NOISES, leakage
    from biasbench.measures.named import protocol_named
    from biasbench.planned import Data
    from biasbench.plugins import load_plugins
    from biasbench.spec import resolve_method

    check_plot(plot)
    protocol_named(protocol, single=False)  # a wrong name is told before the data are read
    check_device(device)
    plugins, settings = load_plugins(plugin_files), load_settings(data=data_roots)
    with Counter(f"{dataset}: index", quiet=quiet) as progress:
        opened, text = open_dataset(dataset, plugins, settings, progress=progress)
    data = Data(dataset.strip(), text, opened, None)
    chosen = resolve_method(method, plugins.methods, opened.primary_attribute)
    names = attributes or (opened.primary_attribute,)
    documents, shown = [], []
    for name in names:
        samples = label_samples(data, name, chosen, seed)
        varied: dict[str, Any] = {
            "protocol": protocol, "seed": measuring_seed(data, seed), "device": device,
            "memo": Memo(settings.cache / "memo"), "threads": threads or os.cpu_count() or 1,
            "groups": data.groups[name], "minimum": minimum,
        }  # fmt: skip
        common = {**varied, "perturbation": perturbation}
        with Counter(f"leakage of {name}", quiet=quiet) as progress:
            report = leakage(
                samples, attribute=name, f1=None if f1 is None else f1 / 100,
                noises=() if no_noise else NOISES, nulls=nulls, progress=progress, **common,
            )  # fmt: skip
        found = None
        defined = not report.details["undefined"]
        if defined and (curve or plot is not None):
            from biasbench.measures.curve import leakage_curve

            with Counter(f"curve of {name}", quiet=quiet) as progress:
                found = leakage_curve(samples, progress=progress, **common)
        if plot is not None and found is not None:
            from biasbench.plots.curve import draw_curve

            path = plot if len(names) == 1 else plot.with_stem(f"{plot.stem}-{name}".replace("*", "-"))
            draw_curve(path, found, report, f"{dataset.strip()}, {chosen.text}")
        documents.append(document(report, found, f1))
        shown.append(text_of(report, found, f"{text}, {chosen.text}"))
        if defined and attackers:
            from biasbench.measures.ablation import leakage_by_attacker

            with Counter("attackers", quiet=quiet) as progress:
                each = leakage_by_attacker(samples, progress=progress, **varied)
            documents[-1]["attackers"] = {key: figure.to_json() for key, figure in each.items()}
            shown.append(attackers_text(each))
    whole = {"dataset": text, "method": chosen.text, "seed": seed}
    whole |= documents[0] if len(documents) == 1 else {"attributes": documents}
    if output is not None:
        from biasbench import io

        io.write_json(output, {"schema": "biasbench/leakage", "schema_version": 1, **whole})
    if as_json:
        emit_json("leakage", whole)
    else:
        emit("\n\n".join(shown))


def check_plot(path: Path | None) -> None:
    """Refuse a picture that cannot be drawn before anything is measured.

    Raises:
        UsageError: For an unknown ending, or when the plotting library is missing.
    """
    from importlib.util import find_spec

    from biasbench.errors import UsageError, printable

    if path is None:
        return
    if path.suffix not in ENDINGS:
        raise UsageError(f"cannot draw {printable(path)!r}", fix=f"Let it end in {', '.join(ENDINGS)}")
    if find_spec("matplotlib") is None:
        raise UsageError("pictures need the package matplotlib", fix="pip install 'biasbench[plot]'")


def document(report: LeakageReport, curve: Curve | None, f1: float | None) -> dict[str, Any]:
    """The JSON of one attribute."""
    found = report.to_json()
    if curve is not None:
        found["curve"] = curve.to_json()
        if f1 is not None:
            found["curve"]["at_f1"] = {"f1": f1, **curve.at(f1).to_json()}
    return found


TITLES = {
    "lambda_D": "λ_D, from the labels",
    "lambda_D_F1": "λ_D(F1), from perturbed labels",
    "null_all": "null, shuffled everywhere",
    "null_train": "null, shuffled in training",
}


def text_of(report: LeakageReport, curve: Curve | None, title: str) -> str:
    """A report for people: a table of figures, then what they rest on."""
    from biasbench.cli.output import grid, render
    from biasbench.errors import printable

    rows = []
    for name, figure in report.figures.items():
        shown = TITLES.get(name) or f"λ_D, {name.removeprefix('noise_')} % wrong attributes"
        last = "" if figure.last is None else f"{figure.last.mean():.2f}"
        interval = "" if figure.interval is None else "{:.2f} to {:.2f}".format(*figure.interval)
        rows.append([shown, str(figure), last, interval, str(figure.n)])
    headings = ("percent", "mean ± sd", "last epoch", "95 % interval", "rounds")
    keep = [i for i, _ in enumerate(headings) if any(row[i] for row in rows)]
    table = grid([headings[i] for i in keep], [[row[i] for i in keep] for row in rows])
    groups = ", ".join(map(printable, report.groups))
    lines = [
        f"{printable(title)}: {printable(report.attribute)} ({groups})",
        f"protocol {printable(report.protocol)}, chance {report.chance:g}",
        "",
        render(table),
        "",
        *facts(report),
    ]
    if curve is not None:
        points = [[f"{f1:.2f}", str(figure)] for f1, figure in zip(curve.f1, curve.figures, strict=True)]
        lines += ["", render(grid(("F1", "λ_D(F1)"), points))]
    return "\n".join([*lines, *(f"! {printable(flag)}" for flag in report.flags)])


def attackers_text(figures: Mapping[str, Figure]) -> str:
    """Leakage by attacker, a line each."""
    from biasbench.cli.output import grid, render

    return render(grid(("attacker", "mean ± sd"), [[name, str(figure)] for name, figure in figures.items()]))


def facts(report: LeakageReport) -> Iterator[str]:
    """What the figures rest on, a line each."""
    from biasbench.errors import printable

    details = report.details
    drawn = ", ".join(f"{split} {n:,}" for split, n in details["per_group"].items())
    yield f"rows drawn of each group: {drawn}"
    yield f"rows of unknown attribute: {percents(details['unknown_share'])}"
    for name, sizes in details["dropped_groups"].items():
        yield f"left out: {printable(name)} {printable(sizes)}"
    if details["dropped_groups"]:
        yield f"rows of groups left out: {percents(details['dropped_share'])}"
    if "majority_rule" in details:
        shares = details["majority_rule"].items()
        rule = ", ".join(f"{split} {'undefined' if share is None else f'{share:.2f}'}" for split, share in shares)
        yield f"majority rule of the balanced training draw, closed form: {rule}"
    if "f1_target" in details:
        rates = ", ".join(f"{rate:.5f}" for rate in details["perturbation_rate"])
        realised = ", ".join(f"{f1:.2f}" for f1 in details["f1_realised"])
        yield f"F1 {details['f1_target']:.2f} by {details['perturbation']}: rates {rates}; realised {realised}"
        yield f"F1 is read on the {details['f1_split']}"
    for shown in (details.get("control") or {}).values():
        verdict = "found" if shown["found"] else "MISSED"
        yield f"planted leak of {shown['planted']:.0f} in the {shown['reads']}: {verdict}, {shown['measured']:.2f}"
    for null, p in (details.get("p_value") or {}).items():
        if p is not None:
            yield f"p-value against {null}: {p:.3g}"


def percents(by_split: Mapping[str, float | None]) -> str:
    """Shares as percent, by split.

    Example:
        >>> percents({"train": 0.125, "val": None})
        'train 12.50 %, val no rows'
    """
    return ", ".join(
        f"{split} {'no rows' if share is None else f'{100 * share:.2f} %'}" for split, share in by_split.items()
    )
