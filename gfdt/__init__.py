"""gfdt: how does a system respond when it is pushed a little, learned from its unperturbed trajectory."""

from gfdt._version import __version__

__all__ = ["__version__"]
