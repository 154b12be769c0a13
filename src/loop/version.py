"""The version of the template that this is: CHANGELOG.md has a section for each."""

VERSION = "0.2.0"
