"""The deep identity of code: a function, and what it reaches by name in its project."""

from .deep import Deep, deep
from .guards import Guards
from .project import Project
from .reach import Part

__all__ = ["Deep", "Guards", "Part", "Project", "deep"]
