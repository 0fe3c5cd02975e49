"""The inductor engine's passes for attention: graphs on the CPU, rewritten as they are on a GPU."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import TypeAlias

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import Dim
from torch.nn import functional
from torch.utils._pytree import tree_leaves

from torch_tensorrt import engines
from torch_tensorrt.engines.inductor.passes import PASSES, attention_kernels, gate
from torch_tensorrt.engines.inductor.passes.masks.reader import arguments_of
from torch_tensorrt.engines.inductor.programs import lift, read_program, write_program
from torch_tensorrt.graphs.editing import FUSED
from torch_tensorrt.lowering.pipeline import lower
from torch_tensorrt.partition.cutter import cut
from torch_tensorrt.partition.planner import plan
from torch_tensorrt.spec.settings import CompilationSettings

transformers = pytest.importorskip("transformers")

aten = torch.ops.aten
attention = aten.scaled_dot_product_attention.default
CUDNN, FLASH, EFFICIENT = attention_kernels.CUDNN, attention_kernels.FLASH, attention_kernels.EFFICIENT
BACKEND = engines.backend("inductor")
ALL = frozenset(each.name for each in PASSES)
Inputs: TypeAlias = "Mapping[str, Tensor]"


@pytest.fixture(autouse=True)
def _graphs_of_the_cpu_are_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "DEVICES", {"cuda", "cpu"})
    monkeypatch.setattr(attention_kernels, "capability", lambda device: (9, 0))


def lowered(
    model: nn.Module, inputs: tuple[Tensor, ...], *names: str, dynamic: object = None, **options: object
) -> fx.GraphModule:
    """`model` after the shared passes and those of this engine that are named."""
    settings = CompilationSettings.from_options(disabled_passes=ALL - set(names), **options)
    with torch.no_grad():
        program = torch.export.export(model.eval(), inputs, dynamic_shapes=dynamic, strict=False)  # type: ignore[arg-type]
        return lower(program, BACKEND, settings)


def calls(graph_module: fx.GraphModule, target: object) -> list[fx.Node]:
    return list(graph_module.graph.find_nodes(op="call_function", target=target))


def kinds(graph_module: fx.GraphModule) -> set[str]:
    """ "masked", "causal" or "free", of every attention in the graph."""
    given = [arguments_of(node) for node in calls(graph_module, attention)]
    return {"masked" if each["attn_mask"] is not None else "causal" if each["is_causal"] else "free" for each in given}


class OnTheCpu(fx.Interpreter):
    """Runs a graph, with PyTorch's words for kernels that only GPUs have."""

    def call_function(
        self, target: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        if target in {CUDNN, FLASH}:
            query, key, value, *rest = args
            causal = bool(rest[-1])
            shared = query.shape[1] != key.shape[1]  # type: ignore[attr-defined]
            return (attention(query, key, value, None, 0.0, causal, scale=kwargs["scale"], enable_gqa=shared),)
        if target is EFFICIENT:
            assert args[3] is None or args[3].stride(2) % 8 == 0, "rows of added numbers are aligned"  # type: ignore[attr-defined]
            return (attention(*args[:4], 0.0, bool(args[-1]), scale=kwargs["scale"]),)
        return super().call_function(target, args, kwargs)  # type: ignore[arg-type]


def assert_same(graph_module: fx.GraphModule, model: nn.Module, *inputs: Tensor, error: float = 1e-5) -> None:
    with torch.no_grad():
        (given,), wanted = tree_leaves(OnTheCpu(graph_module).run(*inputs)), model(*inputs)
    assert float((given - wanted).norm() / wanted.norm()) < error


# ------------------------------------------------------------------------------------------------- masks of real models


class FirstResult(nn.Module):
    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *given: Tensor) -> Tensor:
        result = self.model(**dict(zip(self.names, given, strict=True)))[0]
        assert isinstance(result, Tensor)
        return result


WORDS = {"input_ids": torch.arange(20).view(2, 10) % 17}
IMAGES = {"pixel_values": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))}
SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def _bert(implementation: str = "sdpa") -> nn.Module:
    return transformers.BertModel(
        transformers.BertConfig(vocab_size=50, attn_implementation=implementation, **SMALL), add_pooling_layer=False
    )


def _vit() -> nn.Module:
    return transformers.ViTModel(transformers.ViTConfig(image_size=16, patch_size=4, **SMALL), add_pooling_layer=False)


def _gpt2() -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=50, n_embd=32, n_layer=1, n_head=2, n_positions=32, use_cache=False, bos_token_id=0, eos_token_id=0
    )
    return transformers.GPT2Model(config)


def _llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=50, num_key_value_heads=1, max_position_embeddings=32, use_cache=False, **SMALL
    )
    return transformers.LlamaModel(config)


def _clip() -> nn.Module:
    config = transformers.CLIPTextConfig(
        vocab_size=50, max_position_embeddings=32, bos_token_id=0, eos_token_id=1, **SMALL
    )
    return transformers.CLIPTextModel(config)


def _whisper() -> nn.Module:
    config = transformers.WhisperConfig(
        d_model=32,
        encoder_layers=1,
        encoder_attention_heads=2,
        encoder_ffn_dim=32,
        num_mel_bins=8,
        max_source_positions=10,
    )
    return transformers.models.whisper.modeling_whisper.WhisperEncoder(config)


def _t5() -> nn.Module:
    return transformers.T5EncoderModel(
        transformers.T5Config(vocab_size=50, d_model=32, d_kv=16, num_layers=1, num_heads=2, d_ff=32)
    )


def _swin() -> nn.Module:
    config = transformers.SwinConfig(
        image_size=16, patch_size=2, embed_dim=16, depths=[2], num_heads=[2], window_size=4
    )
    model = transformers.SwinModel(config, add_pooling_layer=False)
    for name, parameter in model.named_parameters():
        if "relative_position_bias" in name:  # zeros at first, which would be no mask
            nn.init.normal_(parameter)
    return model


PADDED = {**WORDS, "attention_mask": torch.ones(2, 10, dtype=torch.int64)}
MODELS: Mapping[str, tuple[Callable[[], nn.Module], Inputs, str]] = {
    "BERT": (_bert, WORDS, "free"),
    "BERT with a mask among its inputs": (_bert, PADDED, "masked"),
    "ViT": (_vit, IMAGES, "free"),
    "GPT-2": (_gpt2, WORDS, "causal"),
    "Llama": (_llama, WORDS, "causal"),
    "CLIP's text encoder": (_clip, WORDS, "causal"),
    "Whisper's encoder": (_whisper, {"input_features": torch.randn(2, 8, 20)}, "free"),
    "T5's encoder, whose mask is a bias": (_t5, WORDS, "masked"),
    "Swin, whose mask is a bias": (_swin, IMAGES, "masked"),
}


@pytest.mark.parametrize("varying", [False, True], ids=["fixed sizes", "sizes that vary"])
@pytest.mark.parametrize(
    "name", [name if at < 4 else pytest.param(name, marks=pytest.mark.slow) for at, name in enumerate(MODELS)]
)
def test_the_masks_of_a_transformer_go_where_they_hide_nothing_or_what_comes_later(name: str, varying: bool) -> None:
    torch.manual_seed(0)
    make, inputs, wanted = MODELS[name]
    model, given = FirstResult(make(), tuple(inputs)).eval(), tuple(inputs.values())
    batch, length = Dim("batch", min=1, max=8), Dim("length", min=2, max=32)
    sizes = tuple({0: batch, 1: length} if tensor.dim() == 2 else {0: batch} for tensor in given)
    before = lowered(model, given, dynamic=(sizes,) if varying else None)
    after = lowered(model, given, "simplify_attention_masks", dynamic=(sizes,) if varying else None)
    assert len(calls(before, attention)) == len(calls(after, attention)) > 0
    assert kinds(after) == {wanted}
    if name != "Whisper's encoder":
        assert kinds(before) == {"masked"}
    assert_same(after, model, *given)
    if varying:
        assert_same(after, model, *(tensor[:1, :7] if tensor.dim() == 2 else tensor[:1] for tensor in given))


# ----------------------------------------------------------------------------------------------------- masks one by one


class Masked(nn.Module):
    """Attention of x with itself, masked by what `make(x)` gives."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x, attn_mask=self.make(x))


def _places(x: Tensor) -> Tensor:
    return torch.arange(x.shape[2], device=x.device)


def _causal(x: Tensor) -> Tensor:
    return _places(x)[:, None] >= _places(x)[None, :]


LOWEST = torch.finfo(torch.float32).min
MASKS: Mapping[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "ones": (lambda x: torch.ones(x.shape[2], x.shape[2], dtype=torch.bool), "free"),
    "zeros to add": (lambda x: torch.zeros(x.shape[0], 1, x.shape[2], x.shape[2]), "free"),
    "places from 0": (lambda x: (_places(x) >= 0).expand(x.shape[2], -1), "free"),
    "places below the length": (lambda x: (_places(x) < x.shape[2])[None, :].expand(x.shape[2], -1), "free"),
    "what was counted from ones": (
        lambda x: (torch.ones(x.shape[2], dtype=torch.int64).cumsum(0) > 0).expand(x.shape[2], -1),
        "free",
    ),
    "one minus ones, times the lowest": (
        lambda x: (1.0 - torch.ones(x.shape[2], x.shape[2])) * LOWEST,
        "free",
    ),
    "causal": (_causal, "causal"),
    "causal, the other way round": (lambda x: _places(x)[None, :] <= _places(x)[:, None], "causal"),
    "causal, strictly and one off": (lambda x: _places(x)[None, :] < _places(x)[:, None] + 1, "causal"),
    "causal and all": (lambda x: _causal(x) & (_places(x) >= 0)[:, None], "causal"),
    "causal or none": (lambda x: _causal(x) | (_places(x) < 0)[:, None], "causal"),
    "not what comes later": (lambda x: ~(_places(x)[:, None] < _places(x)[None, :]), "causal"),
    "lower triangle": (lambda x: torch.ones(x.shape[2], x.shape[2], dtype=torch.bool).tril(), "causal"),
    "infinity above the diagonal": (
        lambda x: torch.zeros_like(_causal(x), dtype=x.dtype).masked_fill(~_causal(x), float("-inf")),
        "causal",
    ),
    "the lowest number above the diagonal": (lambda x: torch.where(_causal(x), 0.0, LOWEST), "causal"),
    "one minus causal, times the lowest": (lambda x: (1.0 - _causal(x).float()) * LOWEST, "causal"),
    "two that hide the same": (
        lambda x: torch.where(_causal(x), 0.0, LOWEST) + torch.where(_causal(x), 0.0, float("-inf")),
        "causal",
    ),
    "one off": (lambda x: _places(x)[:, None] + 1 >= _places(x)[None, :], "masked"),
    "strictly causal but for the first": (
        lambda x: (_places(x)[:, None] > _places(x)[None, :]) | (_places(x) == 0)[:, None],
        "masked",
    ),
    "a window": (lambda x: _causal(x) & (_places(x)[:, None] - _places(x)[None, :] < 3), "masked"),
    "anticausal": (lambda x: _places(x)[:, None] <= _places(x)[None, :], "masked"),
    "a number that doesn't hide": (lambda x: torch.where(_causal(x), 0.0, -100.0), "masked"),
    "a bias": (lambda x: (_places(x)[:, None] - _places(x)[None, :]).to(x.dtype), "masked"),
    "from the input": (lambda x: x[:, :1, :, :1] > -10.0, "masked"),
    "causal and from the input": (lambda x: _causal(x) & (x[:, :1, :, :1] > -10.0), "masked"),
}


@pytest.mark.parametrize("varying", [False, True], ids=["fixed sizes", "sizes that vary"])
@pytest.mark.parametrize("name", MASKS)
def test_a_mask_goes_only_where_what_it_hides_is_proven(name: str, varying: bool) -> None:
    make, wanted = MASKS[name]
    model, x = Masked(make), torch.randn(2, 3, 8, 16)
    dynamic = ({0: Dim("batch", min=1, max=4), 2: Dim("length", min=2, max=64)},) if varying else None
    after = lowered(model, (x,), "simplify_attention_masks", dynamic=dynamic)
    assert kinds(after) == {wanted}
    assert_same(after, model, x)
    if varying:
        assert_same(after, model, torch.randn(1, 3, 13, 16))


def test_a_causal_mask_for_fewer_queries_than_keys_stays() -> None:
    class Decoding(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            mask = torch.arange(q.shape[2])[:, None] >= torch.arange(k.shape[2])[None, :]
            return functional.scaled_dot_product_attention(q, k, k, attn_mask=mask)

    after = lowered(Decoding(), (torch.randn(1, 2, 4, 8), torch.randn(1, 2, 6, 8)), "simplify_attention_masks")
    assert kinds(after) == {"masked"}


def test_the_mask_of_one_last_query_shows_everything() -> None:
    class Decoding(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            place = torch.arange(k.shape[2])[-1:]
            return functional.scaled_dot_product_attention(
                q, k, k, attn_mask=place[:, None] >= torch.arange(k.shape[2])[None, :]
            )

    inputs = (torch.randn(1, 2, 1, 8), torch.randn(1, 2, 6, 8))
    assert kinds(lowered(Decoding(), inputs, "simplify_attention_masks")) == {"free"}


def test_a_mask_that_the_model_writes_to_stays() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mask", torch.ones(8, 8, dtype=torch.bool))

        def forward(self, x: Tensor) -> Tensor:
            y = functional.scaled_dot_product_attention(x, x, x, attn_mask=self.mask)
            self.mask.copy_(x[0, 0, :, :8] > 0)
            return y

    assert kinds(lowered(Written(), (torch.randn(1, 1, 8, 16),), "simplify_attention_masks")) == {"masked"}


def test_graphs_that_are_not_on_a_gpu_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "DEVICES", {"cuda"})
    after = lowered(Masked(_causal), (torch.randn(1, 2, 8, 16),), "simplify_attention_masks", "choose_attention")
    assert kinds(after) == {"masked"}


# -------------------------------------------------------------------------------------------------- the fastest kernel


class Layer(nn.Module):
    """Queries, keys and values of x, as transformers make them, and what comes after."""

    def __init__(self, heads: int = 4, shared: int = 4, width: int = 16, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.shared, self.width, self.causal = heads, shared, width, causal
        self.q, self.k, self.v = (nn.Linear(32, count * width) for count in (heads, shared, shared))
        self.out = nn.Linear(heads * width, 32)

    def forward(self, x: Tensor) -> Tensor:
        def split(given: Tensor, heads: int) -> Tensor:
            return given.view(*x.shape[:2], heads, self.width).transpose(1, 2)

        y = functional.scaled_dot_product_attention(
            split(self.q(x), self.heads),
            split(self.k(x), self.shared),
            split(self.v(x), self.shared),
            is_causal=self.causal,
            enable_gqa=self.heads != self.shared,
        )
        return self.out(y.transpose(1, 2).contiguous().view(*x.shape[:2], -1))


CASES: Mapping[str, tuple[Layer, int, tuple[int, int], object]] = {
    "many queries, Hopper": (Layer(), 200, (9, 0), CUDNN),
    "causal, Hopper": (Layer(causal=True), 200, (9, 0), CUDNN),
    "heads that share keys, Hopper": (Layer(shared=2), 200, (9, 0), CUDNN),
    "one query, Hopper": (Layer(), 1, (9, 0), CUDNN),
    "fewer queries, Hopper": (Layer(), 100, (9, 0), FLASH),
    "few queries, Hopper": (Layer(), 10, (9, 0), EFFICIENT),
    "few queries, heads that share keys, Hopper": (Layer(shared=2), 10, (9, 0), FLASH),
    "wide heads, Hopper": (Layer(heads=1, shared=1, width=192), 200, (9, 0), FLASH),
    "many queries, Ampere": (Layer(causal=True), 200, (8, 6), FLASH),
    "heads too wide": (Layer(heads=1, shared=1, width=264), 200, (9, 0), attention),
    "heads that are no multiple of 8 wide": (Layer(width=12), 200, (9, 0), attention),
    "a GPU without these kernels": (Layer(), 200, (7, 5), attention),
}


@pytest.mark.parametrize("name", CASES)
def test_attention_of_half_floats_becomes_the_kernel_of_the_gpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, length, capability, wanted = CASES[name]
    monkeypatch.setattr(attention_kernels, "capability", lambda device: capability)
    model, x = model.to(torch.bfloat16), torch.randn(2, length, 32, dtype=torch.bfloat16)
    after = lowered(model, (x,), "choose_attention")
    found = {target for target in (CUDNN, FLASH, EFFICIENT, attention) if calls(after, target)}
    assert found == {wanted}
    assert_same(after, model, x, error=2e-2)


@pytest.mark.parametrize("name", CASES)
def test_a_program_with_a_kernel_of_a_gpu_can_be_written_and_read_again(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, length, capability, wanted = CASES[name]
    monkeypatch.setattr(attention_kernels, "capability", lambda device: capability)
    after = lowered(model.to(torch.bfloat16), (torch.randn(2, length, 32, dtype=torch.bfloat16),), "choose_attention")
    settings = CompilationSettings.from_options(min_block_size=1)
    planned = plan(after, BACKEND, settings, device=torch.device("cpu"), reason="")
    (partition,) = cut(after, planned, {}).partitions().values()
    program = lift(partition)
    again = read_program(memoryview(write_program(program)), dict(program.state_dict))
    (node,) = again.graph.find_nodes(op="call_function", target=wanted)
    dtypes = {value.dtype for value in tree_leaves(node.meta["val"]) if isinstance(value, Tensor)}
    assert dtypes <= {torch.bfloat16, torch.float32, torch.int64}, "what PyTorch 2.11 can store"


def test_attention_of_float32_and_masked_attention_are_left_to_pytorch() -> None:
    assert calls(lowered(Layer(), (torch.randn(2, 10, 32),), "choose_attention"), attention)
    x = torch.randn(2, 3, 8, 16, dtype=torch.bfloat16)
    assert calls(lowered(Masked(lambda x: x[:, :1, :, :1] > 0), (x,), "choose_attention"), attention)


def test_what_attention_gives_is_read_as_it_lies_in_memory() -> None:
    model, x = Layer().to(torch.bfloat16), torch.randn(2, 10, 32, dtype=torch.bfloat16)
    after = lowered(model, (x,), "choose_attention")
    assert not calls(after, aten.clone.default)
    (result,) = [
        node for node in calls(after, operator.getitem) if node.all_input_nodes[0].target in {CUDNN, EFFICIENT}
    ]
    assert result.meta["val"].transpose(1, 2).is_contiguous()


def test_attention_with_sizes_that_vary() -> None:
    model, x = Layer().to(torch.bfloat16), torch.randn(2, 10, 32, dtype=torch.bfloat16)
    sizes = {0: Dim("batch", min=1, max=4), 1: Dim("length", min=1, max=64)}
    after = lowered(model, (x,), "choose_attention", dynamic=(sizes,))
    assert calls(after, CUDNN)
    assert not calls(after, aten.clone.default)
    assert_same(after, model, x[:, :7].contiguous(), error=2e-2)


class Biased(nn.Module):
    """Attention of x with itself, with numbers added to the scores of each head, or a constant mask."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Buffer(bias)

    def forward(self, x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x, attn_mask=self.bias)


BIASES = {
    "for all": (torch.randn(1, 1, 7, 7, dtype=torch.bfloat16), EFFICIENT),
    "for each head": (torch.randn(1, 3, 7, 7, dtype=torch.bfloat16), EFFICIENT),
    "for each head and window": (torch.randn(2, 3, 7, 7, dtype=torch.bfloat16), EFFICIENT),
    "for each key": (torch.randn(1, 1, 1, 7, dtype=torch.bfloat16), EFFICIENT),
    "for every second key": ((torch.arange(7) % 2 == 0).expand(1, 1, 7, 7).clone(), EFFICIENT),
    "for many keys": (torch.randn(1, 1, 80, 80, dtype=torch.bfloat16), attention),
    "of rank 2": (torch.randn(7, 7, dtype=torch.bfloat16), attention),
}


@pytest.mark.parametrize("name", BIASES)
def test_constant_numbers_added_to_few_scores_are_aligned_for_the_kernel_that_takes_them_best(name: str) -> None:
    bias, wanted = BIASES[name]
    model, x = Biased(bias), torch.randn(2, 3, bias.shape[-1], 16, dtype=torch.bfloat16)
    after = lowered(model, (x,), "choose_attention")
    assert calls(after, wanted)
    assert_same(after, model, x, error=2e-2)


def test_computed_numbers_added_to_few_scores_are_aligned_too() -> None:
    class Summed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            bias = x[:, :1, :, :1] - x[:, :1, :, :1].transpose(2, 3)
            return functional.scaled_dot_product_attention(x, x, x, attn_mask=bias)

    model, x = Summed(), torch.randn(2, 3, 7, 16, dtype=torch.bfloat16)
    after = lowered(model, (x,), "choose_attention")
    assert calls(after, EFFICIENT)
    assert_same(after, model, x, error=2e-2)


# ---------------------------------------------------------------------------------------------- attention written by hand


@pytest.mark.parametrize("varying", [False, True], ids=["fixed sizes", "sizes that vary"])
@pytest.mark.parametrize(
    "name", ["BERT", "GPT-2", "Llama", "T5's encoder, whose mask is a bias", "Swin, whose mask is a bias"]
)
def test_attention_of_products_and_softmax_becomes_one_operator(name: str, varying: bool) -> None:
    torch.manual_seed(0)
    make, inputs, wanted = MODELS[name]
    plain = make().to(torch.bfloat16)
    plain.set_attn_implementation("eager")
    model = FirstResult(plain, tuple(inputs)).eval()
    given = tuple(each.to(torch.bfloat16) if each.is_floating_point() else each for each in inputs.values())
    batch, length = Dim("batch", min=1, max=8), Dim("length", min=2, max=32)
    sizes = tuple({0: batch, 1: length} if tensor.dim() == 2 else {0: batch} for tensor in given)
    after = lowered(model, given, "fuse_attention", "simplify_attention_masks", dynamic=(sizes,) if varying else None)
    assert kinds(after) == {wanted}
    assert not calls(after, aten._softmax.default)
    assert all(node.meta[FUSED] >= 4 for node in calls(after, attention))
    assert_same(after, model, *given, error=2e-2)
    if varying:
        assert_same(after, model, *(each[:1, :7] if each.dim() == 2 else each[:1] for each in given), error=2e-2)


class ByHand(nn.Module):
    """softmax(q @ k.T / 4 ...) @ v, with what `change` does to the scores and `after` to the softmax."""

    def __init__(self, change: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.change, self.after = change, after

    def forward(self, x: Tensor) -> Tensor:
        scores = self.change(x @ x.transpose(-1, -2) / 4.0)
        return self.after(scores) @ x


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(-1)


HAND = {
    "plainly": (ByHand(lambda s: s, _softmax), 1),
    "in float32": (ByHand(lambda s: s, lambda s: s.float().softmax(-1).to(s.dtype)), 1),
    "with dropout, which does nothing": (
        ByHand(lambda s: s, lambda s: functional.dropout(s.softmax(-1), 0.1, training=False)),
        1,
    ),
    "with the lowest number where hidden": (
        ByHand(lambda s: s.masked_fill(~_causal(s), torch.finfo(s.dtype).min), _softmax),
        1,
    ),
    "with -inf where hidden": (ByHand(lambda s: torch.where(_causal(s), s, float("-inf")), _softmax), 1),
    "with two biases": (ByHand(lambda s: s + s.new_ones(8) + s.new_ones(8, 1), _softmax), 1),
    "scaled after the mask": (ByHand(lambda s: (s + torch.arange(8).to(s.dtype)) * 2.0, _softmax), 0),
    "over the queries": (ByHand(lambda s: s, lambda s: s.softmax(-2)), 0),
    "with a sink": (ByHand(lambda s: s, lambda s: torch.cat([s, s[..., :1]], -1).softmax(-1)[..., :-1]), 0),
    "with a number that doesn't hide": (ByHand(lambda s: s.masked_fill(~_causal(s), -5.0), _softmax), 0),
    "clamped": (ByHand(lambda s: s.clamp(-1.0, 1.0), _softmax), 0),
    "scaled by less than nothing": (ByHand(lambda s: s * -1.0, _softmax), 0),
}


@pytest.mark.parametrize("name", HAND)
def test_attention_by_hand_is_recognised_where_it_is_the_same(name: str) -> None:
    model, wanted = HAND[name]
    x = torch.randn(2, 3, 8, 16, dtype=torch.bfloat16)
    after = lowered(model, (x,), "fuse_attention")
    assert len(calls(after, attention)) == wanted
    assert_same(after, model, x, error=2e-2)


def test_a_softmax_that_is_read_elsewhere_stays() -> None:
    class Weights(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            weights = (x @ x.transpose(-1, -2)).softmax(-1)
            return weights @ x, weights

    x = torch.randn(2, 3, 8, 16, dtype=torch.bfloat16)
    assert not calls(lowered(Weights(), (x,), "fuse_attention"), attention)


def test_attention_without_dropout_goes_into_an_engine_and_with_it_does_not() -> None:
    class Dropping(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.scaled_dot_product_attention(x, x, x) + functional.scaled_dot_product_attention(
                x, x, x, dropout_p=0.5
            )

    settings = CompilationSettings()
    without, dropping = calls(lowered(Dropping(), (torch.randn(1, 2, 8, 16),)), attention)
    assert BACKEND.supports(without, settings)
    assert "random" in BACKEND.supports(dropping, settings).reason
