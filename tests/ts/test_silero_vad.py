"""A published TorchScript file: the voice detector of the silero-vad package, which keeps its state in attributes."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import pytest
import torch
from torch import Tensor

from torch_tensorrt import ts

_SPEC = importlib.util.find_spec("silero_vad")
pytestmark = pytest.mark.skipif(_SPEC is None, reason="the package silero-vad isn't installed")
RATE, CHUNK = 16_000, 512


def detector() -> torch.jit.ScriptModule:
    assert _SPEC is not None
    assert _SPEC.submodule_search_locations
    return torch.jit.load(Path(next(iter(_SPEC.submodule_search_locations))) / "data" / "silero_vad.jit").eval()


def tone() -> Tensor:
    """A rising tone in silence."""
    time = torch.arange(RATE) / RATE
    return 0.3 * torch.sin(2 * torch.pi * (200 + 300 * time) * time) * ((time > 0.2) & (time < 0.7))


def speech_like() -> Tensor:
    """Pulses of a voice through the resonances of changing vowels, syllable after syllable, with noise."""
    torch.manual_seed(0)
    time = torch.arange(2 * RATE) / RATE
    signal = torch.zeros_like(time)
    vowels = torch.tensor([[700.0, 1200.0, 2600.0], [300.0, 2200.0, 3000.0], [400.0, 800.0, 2500.0]])
    formants = vowels[((time * 4).long() % 3)]
    for harmonic in range(1, 30):
        frequency = 120.0 * harmonic
        strength = (1 / (1 + ((frequency - formants) / 90) ** 2)).sum(1)
        signal += strength * torch.sin(2 * torch.pi * frequency * time)
    syllables = torch.sin(2 * torch.pi * 2 * time).clamp(min=0)
    return 0.2 * signal * syllables + 0.003 * torch.randn_like(time)


def probabilities(model: torch.jit.ScriptModule, signal: Tensor) -> Tensor:
    model.reset_states()
    with torch.no_grad():
        return torch.cat([model(chunk[None], RATE) for chunk in signal.split(CHUNK)[:-1]])


def test_speech_probabilities_are_those_of_the_file_and_state_goes_from_chunk_to_chunk() -> None:
    original = detector()
    compiled = ts.compile(detector(), [torch.zeros(1, CHUNK), RATE], engine="openvino", min_block_size=1)
    assert "tensorrt" in str(compiled._model.forward.inlined_graph)
    file = io.BytesIO()
    torch.jit.save(compiled, file)
    file.seek(0)
    loaded = torch.jit.load(file)
    for signal in (tone(), speech_like()):
        expected = probabilities(original, signal)
        for one in (compiled, loaded):
            torch.testing.assert_close(probabilities(one, signal), expected, rtol=0, atol=1e-4)
    assert expected.max() > 0.5  # it hears a voice, which the state has part in
    stateless = torch.cat(
        [probabilities(loaded, torch.cat([chunk, chunk])) for chunk in speech_like().split(CHUNK)[:-1]]
    )
    assert (stateless - expected).abs().max() > 0.05


def test_what_was_not_compiled_runs_as_before() -> None:
    original = detector()
    compiled = ts.compile(detector(), [torch.zeros(1, CHUNK), RATE], engine="eager", min_block_size=1)
    for rate, size, batch in ((8_000, 256, 1), (RATE, CHUNK, 3)):
        x = torch.randn(batch, size) * 0.1
        torch.testing.assert_close(compiled(x, rate), original(x, rate), rtol=0, atol=1e-5)
    with pytest.raises(torch.jit.Error, match="too short"):
        compiled(torch.zeros(1, 100), RATE)
