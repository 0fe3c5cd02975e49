"""What the user sees while the package works: log and progress. Never changes a result."""
