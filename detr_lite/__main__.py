"""`python -m detr_lite train ...` is the same as `detr-lite train ...`."""

from detr_lite.cli.main import main

if __name__ == "__main__":
    main()
