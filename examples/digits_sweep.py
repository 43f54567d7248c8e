"""Which model reads handwritten digits best? A sweep whose every step is kept.

    kept demo                          (or: python examples/digits_sweep.py)

The scans are the 1,797 that ship inside scikit-learn. Three kinds of features are made of them,
and each of 36 model settings is cross-validated. That takes a while, once: a second run answers
from the cache. Stop it half way with Ctrl-C, or kill it, and the next run goes on where it stopped;
run it in two terminals, and nothing is computed twice.

Four functions are kept, each below its `@keep`. They hand each other *digests*, the names of
results, so a run that computes nothing loads no array and imports neither scikit-learn nor
matplotlib. Change the code of `features`, and it is computed again, but an evaluation only where
the new features are really others.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import wellkept
from wellkept import keep

FEATURES = ("pixels", "gradients", "components")

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("nearest neighbours", {"n_neighbors": 1}),
    ("nearest neighbours", {"n_neighbors": 5, "weights": "distance"}),
    ("logistic regression", {"C": 1.0}),
    ("logistic regression", {"C": 3.0}),
    ("support vectors", {"C": 1.0}),
    ("support vectors", {"C": 10.0}),
    ("support vectors", {"C": 100.0}),
    ("random forest", {"n_estimators": 50}),
    ("random forest", {"n_estimators": 100}),
    ("extra trees", {"n_estimators": 100}),
    ("extra trees", {"n_estimators": 200}),
    ("neural network", {"hidden_layer_sizes": 64}),
]


# A `name` is the identity under which results are kept. Without one it would hold the path of this
# script, and `wellkept demo` runs another copy of it.
@keep(name="digits_sweep.scans")
def scans() -> dict[str, Any]:
    """The scans, 8 x 8 pixels of 0 to 1, and the digit that each shows."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return {"images": found.images / 16, "digits": found.target}


@keep(name="digits_sweep.features")
def features(kind: str, scans: dict[str, Any]) -> Any:
    """One row of numbers a scan. No digit is looked at, so it may be done before the folds."""
    import numpy as np

    images = scans["images"]
    pixels = images.reshape(len(images), -1)
    if kind == "pixels":
        return pixels

    # How much of each direction the strokes have in nine overlapping cells of 4 x 4 pixels.
    down, across = np.gradient(images, axis=(1, 2))
    strength = np.hypot(across, down)
    angle = np.arctan2(down, across) / (2 * np.pi) % 1 * 8
    below = np.floor(angle)
    share = angle - below
    histograms = []
    for direction in range(8):
        weight = (below == direction) * (1 - share) + ((below + 1) % 8 == direction) * share
        for top in (0, 2, 4):
            for left in (0, 2, 4):
                cell = (strength * weight)[:, top : top + 4, left : left + 4]
                histograms.append(cell.sum(axis=(1, 2)))
    gradients = np.stack(histograms, axis=1)
    gradients /= np.linalg.norm(gradients, axis=1, keepdims=True)
    if kind == "gradients":
        return gradients

    # The 40 principal components of both.
    both = np.hstack([pixels, 2 * gradients])
    left, sizes, _ = np.linalg.svd(both - both.mean(axis=0), full_matrices=False)
    return left[:, :40] * sizes[:40]


@keep(name="digits_sweep.evaluate")
def evaluate(
    model: str, features: Any, scans: dict[str, Any], folds: int, **options: Any
) -> dict[str, Any]:
    """Cross-validate one setting: the accuracy of each fold, and what was read as what."""
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    kind, fixed = {
        "nearest neighbours": (KNeighborsClassifier, {}),
        "logistic regression": (LogisticRegression, {"max_iter": 2000}),
        "support vectors": (SVC, {}),
        "random forest": (RandomForestClassifier, {"random_state": 0}),
        "extra trees": (ExtraTreesClassifier, {"random_state": 0}),
        "neural network": (
            MLPClassifier,
            {"random_state": 0, "learning_rate_init": 0.01, "early_stopping": True},
        ),
    }[model]
    digits = scans["digits"]
    accuracy, misread = [], []
    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    for train, test in splitter.split(features, digits):
        fitted = kind(**fixed, **options).fit(features[train], digits[train])
        read = fitted.predict(features[test])
        accuracy.append(float((read == digits[test]).mean()))
        misread += [
            (int(at), int(what)) for at, what in zip(test, read, strict=True) if what != digits[at]
        ]
    return {"folds": accuracy, "misread": misread, "of": len(digits)}


@keep(name="digits_sweep.draw")
def draw(rows: list[tuple[str, str, list[float]]], best: dict[str, Any], scans: Any) -> bytes:
    """The plot as a PNG: every setting's accuracy, and the scans that the best one misread."""
    import io

    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    models = list(dict.fromkeys(model for model, _, _ in rows))
    kinds = list(dict.fromkeys(kind for _, kind, _ in rows))
    colours = dict(zip(kinds, ("#4477aa", "#ee7733", "#228833"), strict=False))
    figure = plt.figure(figsize=(10.5, 5.2), dpi=130, facecolor="white")
    wide, narrow = figure.add_gridspec(1, 2, width_ratios=(3, 2), wspace=0.12)

    axes = figure.add_subplot(wide)
    for i, model in enumerate(models):
        own = [row for row in rows if row[0] == model]
        for j, (_, kind, folds) in enumerate(sorted(own, key=lambda row: kinds.index(row[1]))):
            at = i + (j - (len(own) - 1) / 2) * 0.78 / max(len(own), 3)
            mean = 100 * sum(folds) / len(folds)
            span = (100 * min(folds), 100 * max(folds))
            colour = colours[kind]
            axes.plot(span, (at, at), color=colour, alpha=0.35, lw=2.5, solid_capstyle="round")
            axes.plot(mean, at, "o", color=colour, ms=5.5, mec="white", mew=0.6)
        if i:
            axes.axhline(i - 0.5, color="0.88", lw=0.8)
    axes.set_yticks(range(len(models)), models)
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.set_xlabel("accuracy in cross-validation, % (line: from the worst fold to the best)")
    axes.grid(axis="x", color="0.9", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(left=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    dots = [Line2D([], [], marker="o", ls="", color=colours[kind], label=kind) for kind in kinds]
    axes.legend(
        handles=dots,
        ncols=3,
        loc="lower left",
        bbox_to_anchor=(-0.03, 1),
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.2,
        borderaxespad=0.1,
    )
    axes.set_title("Each dot is one model setting", loc="left", pad=26, fontsize=12)

    across = 4
    grid = narrow.subgridspec(4, across, hspace=0.45, wspace=0.12)
    for i, (at, read) in enumerate(sorted(best["misread"])[: 4 * across]):
        cell = figure.add_subplot(grid[i // across, i % across])
        cell.imshow(scans["images"][at], cmap="gray_r")
        cell.set_title(f"{scans['digits'][at]} read as {read}", fontsize=8.5, pad=3)
        cell.set_xticks([])
        cell.set_yticks([])
        cell.spines[:].set_color("0.8")
    beside = figure.add_subplot(narrow, frameon=False, xticks=[], yticks=[])
    count = f"{len(best['misread'])} of {best['of']:,}"
    beside.set_title(f"Misread by the best one: {count}", loc="left", pad=26, fontsize=12)

    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.2)
    plt.close(figure)
    return file.getvalue()


class Imports:
    """The libraries that only computing needs: imported when something must be computed."""

    seconds = 0.0
    done = False

    @classmethod
    def need(cls) -> None:
        if cls.done:
            return
        began = time.perf_counter()
        try:
            for name in ("sklearn.ensemble", "sklearn.neural_network", "matplotlib.pyplot"):
                import_module(name)
        except ImportError as error:
            sys.exit(f"{error}; this demo needs it: pip install 'wellkept[demo]'")
        cls.done = True
        cls.seconds = time.perf_counter() - began


def digest_of(function: Any, *args: Any) -> Any:
    """The name of what a kept function returns, which is not even loaded.

    What is not kept is computed, and returned itself: for another kept function that is the same.
    """
    try:
        return function.call(*args).result
    except wellkept.KeptError:
        Imports.need()
        return function(*args)


def label(options: dict[str, Any]) -> str:
    short = {"n_neighbors": "k", "n_estimators": "trees", "hidden_layer_sizes": "hidden"}
    return ", ".join(
        f"{value}-weighted" if name == "weights" else f"{short.get(name, name)} = {value:g}"
        for name, value in options.items()
    )


def sweep(
    settings: list[tuple[str, dict[str, Any], str]], folds: int, console: Console
) -> list[dict[str, Any]]:
    """Evaluate every setting, with a bar."""
    columns = (
        BarColumn(24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}"),
    )
    results = []
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("features", total=len(settings))
        source = digest_of(scans)
        inputs = {kind: digest_of(features, kind, source) for kind in FEATURES}
        for model, options, kind in settings:
            bar.update(task, description=f"{model}, {label(options)}, {kind}")
            try:
                result = evaluate.load(model, inputs[kind], source, folds, **options)
            except wellkept.KeptError:  # not kept, or damaged
                Imports.need()
                images = scans()
                result = evaluate(model, features(kind, images), images, folds, **options)
            results.append(result)
            bar.advance(task)
    return results


def report(
    settings: list[tuple[str, dict[str, Any], str]], results: list[dict[str, Any]], console: Console
) -> int:
    """Print the table; the place of the best setting."""
    right = [1 - len(result["misread"]) / result["of"] for result in results]
    best = max(range(len(right)), key=right.__getitem__)
    table = Table(title="Best accuracy of each model on each kind of features")
    table.add_column("model")
    for kind in FEATURES:
        table.add_column(kind, justify="right")
    table.add_column("best setting")
    for model in dict.fromkeys(model for model, _, _ in settings):
        own = [i for i, setting in enumerate(settings) if setting[0] == model]
        cells = []
        for kind in FEATURES:
            accuracy = max((right[i] for i in own if settings[i][2] == kind), default=None)
            cell = "" if accuracy is None else f"{accuracy:.2%}"
            cells.append(f"[bold green]{cell}[/]" if accuracy == right[best] else cell)
        top = max(own, key=right.__getitem__)
        table.add_row(model, *cells, label(settings[top][1]))
    console.print(table)
    return best


def plot(
    settings: list[tuple[str, dict[str, Any], str]],
    results: list[dict[str, Any]],
    best: int,
    path: Path,
) -> str:
    """Draw the plot if it has changed, write it if the file is another; what was done."""
    rows = [
        (model, kind, result["folds"])
        for (model, _, kind), result in zip(settings, results, strict=True)
    ]
    try:
        picture = draw.load(rows, results[best], digest_of(scans))
    except wellkept.KeptError:
        Imports.need()
        picture = draw(rows, results[best], scans())
    if not path.is_file() or path.read_bytes() != picture:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
    return "drawn" if draw.stats().computed else "from the cache"


def spent(began: float) -> float:
    """Seconds since then, without the imports."""
    return time.perf_counter() - began - Imports.seconds


def run(asked: argparse.Namespace, console: Console) -> None:
    settings = [(model, options, kind) for model, options in SETTINGS for kind in FEATURES]
    settings = settings[: asked.settings]
    try:
        where = f"kept in {evaluate.cache}"
    except wellkept.StoreError as error:
        where = f"not kept: {error}"
    console.print(f"{len(settings)} model settings, {asked.folds} folds each; {where}")
    began = time.perf_counter()
    results = sweep(settings, asked.folds, console)
    work = spent(began)

    best = report(settings, results, console)
    began = time.perf_counter() - Imports.seconds
    done = plot(settings, results, best, asked.out)
    drawing = spent(began)

    counts = evaluate.stats()
    hits, saved = counts.hits, counts.seconds_saved
    computed = len(settings) - hits
    console.print(f"plot: {asked.out} ({done}, {drawing:.2f} s)", soft_wrap=True)
    if not computed:
        console.print(
            f"all {hits} settings from the cache: {work:.3f} s in place of {saved:.1f} s, "
            f"[bold]{saved / work:,.0f} times[/] faster"
        )
        return
    console.print(
        f"{computed} settings computed: {work:.1f} s, and {Imports.seconds:.1f} s of imports"
    )
    if hits:
        console.print(f"{hits} settings from the cache: {saved:.1f} s saved")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("digits_sweep.png"), help="the plot")
    parser.add_argument("--folds", type=int, default=5, help="folds of the cross-validation")
    parser.add_argument("--settings", type=int, metavar="N", help="only the first N settings")
    asked = parser.parse_args(arguments)
    if asked.folds < 2:
        parser.error("--folds: two or more")
    if asked.settings is not None and asked.settings < 1:
        parser.error("--settings: one or more")
    console = Console(highlight=False)
    # A model that has not converged is a result like another.
    warnings.filterwarnings("ignore", module="sklearn")
    try:
        with wellkept.run("digits sweep", tags={"folds": asked.folds}):
            run(asked, console)
        console.print("Look at it: wellkept ui")
    except KeyboardInterrupt:
        done = evaluate.stats()
        console.print(
            f"Stopped. {done.computed + done.hits} settings are kept: run it again to go on."
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
