"""What `python -m torch_tensorrt` does; uses public names only."""
