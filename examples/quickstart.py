"""Compile a model, run it, save it, load it: fifteen lines."""

import torch

import torch_tensorrt

model = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.BatchNorm2d(16), torch.nn.ReLU()).eval()
images = torch_tensorrt.Input(min_shape=(1, 3, 64, 64), opt_shape=(4, 3, 64, 64), max_shape=(8, 3, 64, 64))
compiled = torch_tensorrt.compile(model, inputs=[images], min_block_size=1)

x = torch.randn(2, 3, 64, 64)
with torch.no_grad():
    print("largest difference to PyTorch:", (compiled(x) - model(x)).abs().max().item())

torch_tensorrt.save(compiled, "model.ep", inputs=[images])
loaded = torch_tensorrt.load("model.ep").module()  # in any process; nothing is compiled again
print("loaded gives the same:", torch.equal(loaded(x), compiled(x)))
