"""``python llama_quantize.py FOLDER IN OUT NUMBER``: a GGUF file quantised by llama.cpp's own library in FOLDER.

A program of its own: what the library does with a file that it dislikes is to end the process.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path


class Parameters(ctypes.Structure):
    """The beginning of ``llama_model_quantize_params``, and room for what follows in any version."""

    _fields_ = [("num_threads", ctypes.c_int32), ("file_type", ctypes.c_int32), ("rest", ctypes.c_byte * 248)]


def main(folder: Path, whole: str, small: str, file_type: int) -> int:
    for pattern in ("libggml-base*", "libggml.v*", "libllama.v*"):
        library = ctypes.CDLL(str(next(folder.glob(pattern))), mode=ctypes.RTLD_GLOBAL)
    library.llama_model_quantize_default_params.restype = Parameters
    library.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(Parameters)]
    library.llama_backend_init()
    parameters = library.llama_model_quantize_default_params()
    parameters.num_threads, parameters.file_type = 1, file_type
    return int(library.llama_model_quantize(whole.encode(), small.encode(), ctypes.byref(parameters)))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
