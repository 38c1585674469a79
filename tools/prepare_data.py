"""Prepare a dataset: python tools/prepare_data.py convert data/voc data/coco --to coco"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from detr_lite.cli.main import main

if __name__ == "__main__":
    main("prepare-data")
