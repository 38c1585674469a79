"""Serve trained models as a page and an API: python tools/serve.py --checkpoint best.ckpt"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from detr_lite.cli.main import main

if __name__ == "__main__":
    main("serve")
