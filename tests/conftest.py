import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm


@pytest.fixture
def exact_norms(monkeypatch):
    """Norms computed in the number format of the model. The library's are float32 even in a float64 model, whose numbers then
    agree only to about 1e-7, since the last bit may round either way.
    """

    def forward(norm, hidden):
        variance = hidden.square().mean(-1, keepdim=True)
        return norm.weight * (hidden * torch.rsqrt(variance + norm.variance_epsilon))

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)
