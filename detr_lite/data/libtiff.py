"""Keeps libtiff from writing on stderr about damaged files, of which Pillow raises an exception anyway."""

import contextlib
import ctypes
import functools
from pathlib import Path

from PIL import Image


@functools.cache
def silence_libtiff() -> None:
    """Once for the process; without effect where Pillow does not bring libtiff as a file, as on Windows."""
    package = Path(Image.__file__).parent
    for file in (*package.parent.glob("pillow.libs/libtiff*"), *package.glob(".dylibs/libtiff*")):
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(str(file))  # Pillow has loaded it already: this is no second copy
            for setter in (library.TIFFSetErrorHandler, library.TIFFSetWarningHandler):
                setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
                setter(None)
