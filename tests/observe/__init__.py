"""Tests of what the user sees: log and progress."""
