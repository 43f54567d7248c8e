"""The deep identity of code: a function, and what it reaches by name in its project."""

from wellkept.hashing.code.identity import Deep, deep
from wellkept.hashing.code.modules import Project
from wellkept.hashing.code.nodes import Part
from wellkept.hashing.code.unchanged import Guards

__all__ = ["Deep", "Guards", "Part", "Project", "deep"]
