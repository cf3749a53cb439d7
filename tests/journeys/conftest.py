"""The pool of five languages that evaluation's tests use."""

from tests.evaluation.conftest import mixed_folder

__all__ = ["mixed_folder"]
