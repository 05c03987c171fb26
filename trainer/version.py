"""The version of this package, which the files that it writes note."""

VERSION = "0.1.0"
