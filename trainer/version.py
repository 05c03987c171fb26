"""The version of this package, which the files that it writes note."""

VERSION = "1.0.0"
