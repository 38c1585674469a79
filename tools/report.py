"""Write the report of a run, or compare several: python tools/report.py runs/coco_small"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from detr_lite.cli.main import main

if __name__ == "__main__":
    main("report")
