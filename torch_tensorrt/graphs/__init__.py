"""Edits of FX graphs that rooms share which never see each other: lowering, and the passes of an engine."""
