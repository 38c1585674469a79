"""The commands: `main.py` is the door, and each command a module with its options and its work."""
