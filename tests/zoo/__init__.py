"""Models that the package is measured with."""
