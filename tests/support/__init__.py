"""Helpers of the test suite; pytest puts this folder's parent on the import path."""
