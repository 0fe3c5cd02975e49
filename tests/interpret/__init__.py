"""Runs TensorRT networks with PyTorch on the CPU: our reading of NVIDIA's documentation, never part of the package.

Shares no code with the converters and reads everything back from the network. Each layer's function names the page that it
follows, below https://docs.nvidia.com/deeplearning/tensorrt/operators/docs/ (or the class in the Python API's reference).
"""
