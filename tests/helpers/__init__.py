"""What several test files share: runs, faults, reference models and checks. Imported as `tests.helpers`."""
