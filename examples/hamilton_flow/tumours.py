"""The dataflow: which penalty makes the best classifier of tumours? Hamilton reads it from names.

The 569 cases are those that ship inside scikit-learn.
"""

import pandas as pd
from hamilton.function_modifiers import cache, extract_fields
from hamilton.htypes import Collect, Parallelizable


@cache(format="parquet")
def cases() -> pd.DataFrame:
    """Thirty measurements of each tumour, and what it was: a file that other programs read."""
    from sklearn.datasets import load_breast_cancer

    return load_breast_cancer(as_frame=True).frame


@extract_fields({"measurements": pd.DataFrame, "benign": pd.Series})
def parts(cases: pd.DataFrame) -> dict:
    return {"measurements": cases.drop(columns="target"), "benign": cases["target"] == 1}


def scaled(measurements: pd.DataFrame) -> pd.DataFrame:
    """Each measurement with mean 0 and deviation 1."""
    return (measurements - measurements.mean()) / measurements.std()


def penalty(steps: int) -> Parallelizable[float]:
    """The penalties that are tried, each in a task of its own."""
    for step in range(steps):
        yield 10.0 ** (step - 2)


def tried(penalty: float, scaled: pd.DataFrame, benign: pd.Series, folds: int) -> dict:
    """How well a classifier with one penalty does on cases that it has not seen."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    model = LogisticRegression(C=1 / penalty, max_iter=2000)
    scores = cross_val_score(model, scaled, benign, cv=folds)
    return {"penalty": penalty, "accuracy": float(scores.mean())}


def table(tried: Collect[dict]) -> pd.DataFrame:
    return pd.DataFrame(list(tried)).sort_values("penalty", ignore_index=True)


def best(table: pd.DataFrame) -> dict:
    """The penalty that does best."""
    row = table.loc[table["accuracy"].idxmax()]
    return {"penalty": float(row["penalty"]), "accuracy": float(row["accuracy"])}
