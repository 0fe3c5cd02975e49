"""`python -m torch_tensorrt`."""

from __future__ import annotations

import sys

try:
    from torch_tensorrt.tools.command import main
except ModuleNotFoundError as missing:
    if missing.name not in ("click", "rich"):
        raise
    sys.exit(f"`python -m torch_tensorrt` needs the package {missing.name!r}: pip install click rich")

if __name__ == "__main__":
    main(prog_name="python -m torch_tensorrt")
