"""What a policy looks at: its attention weights, over all layers and heads (paper 3.3, Figure 10).

The weights come from transformers' eager attention, one layer after the other, and no layer's are kept: the most that is held
at a time is one layer's (H, L, L). Any Llama checkpoint can be looked at, with grouped queries or without.

Figure 10 shows the maximum over all layers and heads, neighbouring tokens in bins. That maximum saturates: each head's weights
sum to one over all tokens seen, a head that looks at one token alone gives 1, and the more heads a model has, the surer it is
that one of them does so somewhere. It tells *whether* something looks there at all, and nothing of how much of the model does.
``InstructionAttention`` therefore has beside it the mean over heads of each head's own maximum, and the mean share.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import eager_attention_forward

from policy.attention import attending_by

_NAME = "visited_weights"
Visit = Callable[[Tensor], None]


@dataclass(frozen=True, slots=True)
class InstructionAttention:
    """Attention from the tokens of one turn to those of the instruction; all three lie in [0, 1].

    ``maximum``: over layers, heads and pairs of tokens, as in Figure 10. ``mean_of_heads``: each head's maximum over pairs of
    tokens, averaged over all heads of all layers. ``share``: what a token of the turn gives to the whole instruction, averaged
    over tokens and heads.
    """

    maximum: float
    mean_of_heads: float
    share: float


def maximum_attention(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    """(L, L) the maximum over layers and heads of the attention from token i (row) to token j (column), on the CPU.

    Zero above the diagonal. Raises ValueError for a model that is no Llama, and for more ids than its context holds.
    """
    strongest = torch.zeros(len(ids), len(ids), device=model.device)

    def visit(weights: Tensor) -> None:
        torch.maximum(strongest, weights.amax(dim=0).float(), out=strongest)

    visit_attention(model, ids, visit)
    return strongest.cpu()


def instruction_attention(
    model: PreTrainedModel, ids: Sequence[int], turns: Sequence[range], instruction: range
) -> list[InstructionAttention]:
    """For each of ``turns``, the attention from its tokens to those of ``instruction``; both are places in ``ids``.

    Raises ValueError as ``maximum_attention``, and for a turn that does not lie behind the instruction.
    """
    for turn in turns:
        if not instruction or turn.start < instruction.stop or turn.start >= turn.stop:
            raise ValueError(
                f"attention from the tokens {turn.start} to {turn.stop} to an instruction from {instruction.start} to "
                f"{instruction.stop} was asked for; both need tokens, and the turn must come after the instruction"
            )
    columns = slice(instruction.start, instruction.stop)
    maxima: list[list[Tensor]] = [[] for _ in turns]  # by turn, of each layer (H,)
    shares: list[list[Tensor]] = [[] for _ in turns]

    def visit(weights: Tensor) -> None:
        for place, turn in enumerate(turns):
            block = weights[:, turn.start : turn.stop, columns].float()
            maxima[place].append(block.amax(dim=(1, 2)))
            shares[place].append(block.sum(dim=2).mean(dim=1))

    visit_attention(model, ids, visit)
    found = []
    for of_layers, given in zip(maxima, shares, strict=True):
        heads = torch.cat(of_layers)
        found.append(InstructionAttention(float(heads.max()), float(heads.mean()), float(torch.cat(given).mean())))
    return found


def visit_attention(model: PreTrainedModel, ids: Sequence[int], visit: Visit) -> None:
    """Read ``ids`` and show ``visit`` the attention weights (H, L, L) of each layer, from the first to the last.

    Raises ValueError for a model that is no Llama, and for no ids or more than its context holds.
    """
    context = model.config.max_position_embeddings
    if not 0 < len(ids) <= context:
        raise ValueError(
            f"there are {len(ids)} tokens to read, and the context of this policy holds 1 to {context}; give that many"
        )
    with torch.no_grad(), attending_by(model, _NAME, "attention is looked at for"):
        model.base_model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False, visit=visit)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor, *, visit: Visit, **options: Any
) -> tuple[Tensor, None]:
    """Eager attention, its weights shown and let go of."""
    out, weights = eager_attention_forward(module, query, key, value, attention_mask, **options)
    visit(weights[0])
    return out, None


def bin_edges(spans: Sequence[range], size: int) -> list[int]:
    """Where bins of ``size`` neighbouring tokens begin, and at last where the last one ends. No bin reaches from one of
    ``spans`` into the next, so the last of a span may be smaller.

    Raises ValueError for a size below 1, and for spans that do not lie end to end.
    """
    if size < 1:
        raise ValueError(f"bins of {size} tokens were asked for; a bin has 1 token or more")
    if any(one.stop != other.start for one, other in pairwise(spans)):
        raise ValueError(f"the spans {[(each.start, each.stop) for each in spans]} do not lie end to end")
    return [*(edge for span in spans for edge in range(span.start, span.stop, size)), spans[-1].stop]


def binned(strongest: Tensor, edges: Sequence[int]) -> Tensor:
    """(M, M) the maximum of ``strongest`` (L, L) over each pair of bins; bin m holds tokens edges[m] to edges[m + 1] - 1."""
    lengths = [stop - start for start, stop in pairwise(edges)]
    held = strongest[edges[0] : edges[-1], edges[0] : edges[-1]]
    columns = torch.stack([part.amax(dim=1) for part in held.split(lengths, dim=1)], dim=1)
    return torch.stack([part.amax(dim=0) for part in columns.split(lengths)])


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS["eager"])
