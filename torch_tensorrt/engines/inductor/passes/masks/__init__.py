"""What the graph says about the values of attention masks."""
