"""The version of the template in this clone or wheel. CHANGELOG.md describes each version."""

VERSION = "0.2.0"
