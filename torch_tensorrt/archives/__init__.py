"""The file of an ExportedProgram, read without running what it holds."""
