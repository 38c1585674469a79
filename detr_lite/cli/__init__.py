"""The commands: `main.py` dispatches to one module per command, which has its options and its work."""
