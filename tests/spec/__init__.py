"""Tests of what the caller says: inputs, devices, dtypes, options."""
