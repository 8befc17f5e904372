"""The composition root: builds every object, starts them in order, stops them in reverse."""

from .cloud import Cloud, StartFailed, start
from .serve import serve

__all__ = ["Cloud", "StartFailed", "serve", "start"]
