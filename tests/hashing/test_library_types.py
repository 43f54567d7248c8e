"""Pairs of values of library types: each differs or agrees, before and after it was looked at."""

from __future__ import annotations

import argparse
import array
import calendar
import collections
import datetime
import decimal
import email
import fractions
import functools
import http
import inspect
import ipaddress
import operator
import pathlib
import random
import re
import statistics
import string
import types
import typing
import uuid
import warnings
import zoneinfo
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import PIL.Image
import PIL.ImageFilter
import polars as pl
import pyarrow as pa
import pyarrow.compute
import pydantic
import pytest
import scipy.interpolate
import scipy.optimize
import scipy.signal
import scipy.sparse
import scipy.spatial.transform
import scipy.stats
import shapely
import sympy
import xarray as xr
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils import Bunch

from tests.hashing import library_types
from wellkept.hashing import digest

MODULES = [argparse, array, calendar, collections, datetime, decimal, email, fractions, functools]
MODULES += [http, inspect, ipaddress, operator, pathlib, random, re, statistics, string, types]
MODULES += [typing, uuid, zoneinfo, pydantic, shapely, sympy]
NAMESPACE: dict[str, Any] = {
    **{module.__name__: module for module in MODULES},
    **{"nx": nx, "np": np, "pd": pd, "PIL": PIL, "pl": pl, "pa": pa, "xr": xr, "scipy": scipy},
    **{kind.__name__: kind for kind in (PCA, RandomForestClassifier, GaussianProcessRegressor)},
    **{kind.__name__: kind for kind in (LinearRegression, KNeighborsClassifier, StandardScaler)},
    **{"make_pipeline": make_pipeline, "SVC": SVC, "Bunch": Bunch},
    **vars(library_types),
}


def pairs() -> list[tuple[str, str, str, bool]]:
    """(library, one expression, the other, whether the values agree)."""
    found, library = [], ""
    for line in (Path(__file__).parent / "library_pairs.txt").read_text().splitlines():
        if line.startswith("["):
            library = line[1:-1]
        elif line[:2] in ("! ", "= "):
            one, other = line[2:].split(" ;; ")
            found.append((library, one, other, line[0] == "="))
    return found


def looked_at(value: Any) -> Any:
    """The value, after all was done to it that only reads."""
    looks = [repr, str, hash, len, list, bool, dir, vars, lambda held: held == held]
    if isinstance(value, types.FunctionType | functools.partial | type):
        looks.remove(list)
    for look in looks:
        try:
            look(value)
        except Exception:  # noqa: BLE001  not everything can be done to everything
            continue
    for name in dir(type(value)):
        if name not in ("__abstractmethods__", "real_if_close"):
            try:
                getattr(value, name)
            except Exception:  # noqa: BLE001  as above
                continue
    return value


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("library", "one", "other", "agree"), pairs())
def test_each_pair(library: str, one: str, other: str, agree: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = eval(one, dict(NAMESPACE)), eval(other, dict(NAMESPACE))
        before = digest(first), digest(second)
        assert (before[0] == before[1]) is agree
        # made again, it is the same; and so it is after it was looked at
        assert digest(eval(one, dict(NAMESPACE))) == before[0]
        assert digest(eval(other, dict(NAMESPACE))) == before[1]
        assert (digest(looked_at(first)), digest(looked_at(second))) == before


def test_there_are_enough_pairs() -> None:
    found = pairs()
    assert len(found) == len({pair[1:3] for pair in found}) >= 300
