"""Draw attention: python tools/visualize.py --checkpoint best.ckpt --source photos --output figures"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from detr_lite.cli.main import main

if __name__ == "__main__":
    main("visualize")
