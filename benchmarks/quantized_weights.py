"""A Llama-like decoder with random weights in float32, int8 and int4: milliseconds for one token, bytes of the saved file, error.

One token without a cache of keys and values stands for a step of decoding: the time goes into reading the weights.
"""

from __future__ import annotations

import argparse
import io

import torch
from measuring import Row, medians, write_results
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import torch_tensorrt

FORMS: dict[str, dict[str, object]] = {
    "float32": {},
    "int8": {"precision": "int8"},
    "int4, groups of 128": {"precision": "int4"},
    "int4, groups of 32": {"precision": "int4", "group_size": 32},
}


class Decoder(nn.Module):
    """Token numbers in, logits out."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        config = LlamaConfig(
            hidden_size=hidden,
            intermediate_size=hidden * 3,
            num_hidden_layers=layers,
            num_attention_heads=hidden // 64,
            num_key_value_heads=max(1, hidden // 256),
            vocab_size=4096,
            attn_implementation="sdpa",
        )
        self.model = LlamaForCausalLM(config)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens: [batch, length], int64."""
        return self.model(input_ids=tokens, use_cache=False).logits


def measure(hidden: int, layers: int, rounds: int) -> list[Row]:
    """One row for each form; all are called in turns."""
    model, tokens = Decoder(hidden, layers).eval(), torch.randint(0, 4096, (1, 1))
    program = torch_tensorrt.dynamo.trace(model, arg_inputs=[tokens])
    compiled, sizes = {}, {}
    for name, options in FORMS.items():
        short = torch_tensorrt.quantize(program, weight_only=True, **options) if options else program
        compiled[name] = torch_tensorrt.compile(short, engine="openvino")
        file = io.BytesIO()
        torch_tensorrt.save(compiled[name], file)
        sizes[name] = file.getbuffer().nbytes / 1e6
    calls = {"eager": lambda: model(tokens)}
    calls |= {name: lambda each=each: each(tokens) for name, each in compiled.items()}
    with torch.no_grad():
        times = medians(calls, rounds, seconds=60.0)
        wanted = model(tokens)
        errors = {name: float((each(tokens) - wanted).norm() / wanted.norm()) for name, each in compiled.items()}
    title = f"{layers} layers of {hidden}, {sum(each.numel() for each in model.parameters()) / 1e6:.0f} M weights"
    return [
        {
            "model": title,
            "weights": name,
            "ms per token": 1e3 * times[name],
            "times float32": times["float32"] / times[name],
            "times eager": times["eager"] / times[name],
            "file, MB": sizes[name],
            "relative error": errors[name],
        }
        for name in FORMS
    ]


def main() -> None:
    """Prints and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300, help="how often each is called")
    parser.add_argument("--tiny", action="store_true", help="a small decoder")
    parser.add_argument("--dry", action="store_true", help="write no results")
    chosen = parser.parse_args()
    torch.manual_seed(0)
    rows = measure(*((256, 2) if chosen.tiny else (768, 8)), chosen.rounds)
    if chosen.dry:
        print(rows)
    else:
        print(write_results("quantized_weights", "Weights in eight and four bits (OpenVINO, medians)", rows))


if __name__ == "__main__":
    main()
