"""What a policy attends to: its attention weights, over all layers and heads (paper 3.3, Figure 10).

The weights come from transformers' eager attention, one layer after the other, and are not kept: at most one layer's (H, L, L)
weights are in memory. It works for any Llama checkpoint, with grouped queries or without.

Figure 10 shows the maximum over all layers and heads, with neighbouring tokens in bins. That maximum saturates: the weights of
a head sum to one over all tokens it sees, a head that attends to a single token gives 1, and the more heads a model has, the
more likely one of them does. It says *whether* anything attends to a token, and not how much of the model does.
``InstructionAttention`` therefore also has the mean over heads of each head's own maximum, and the mean share.
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

_NAME = "visited_weights"  # of the attention registered below
Visit = Callable[[Tensor], None]


@dataclass(frozen=True, slots=True)
class InstructionAttention:
    """Attention from the tokens of one turn to those of the instruction; all three lie in [0, 1].

    ``maximum``: over layers, heads and pairs of tokens, as in Figure 10. ``mean_of_heads``: each head's maximum over pairs of
    tokens, averaged over all heads of all layers. ``share``: the attention of a token of the turn to the whole instruction,
    averaged over tokens and heads.
    """

    maximum: float
    mean_of_heads: float
    share: float


def maximum_attention(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    """(L, L) the maximum over layers and heads of the attention from token i (row) to token j (column), on the CPU.

    Zero above the diagonal. Raises ValueError for a model that is not a Llama, and for more ids than its context holds.
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

    Raises ValueError as ``maximum_attention``, and for a turn that does not come after the instruction.
    """
    for turn in turns:
        if not instruction or turn.start < instruction.stop or turn.start >= turn.stop:
            raise ValueError(
                f"attention was asked for from the tokens {turn.start} to {turn.stop} to an instruction from "
                f"{instruction.start} to {instruction.stop}; both need tokens, and the turn must come after the instruction"
            )
    columns = slice(instruction.start, instruction.stop)
    maxima: list[list[Tensor]] = [[] for _ in turns]  # for each turn, (H,) of each layer
    shares: list[list[Tensor]] = [[] for _ in turns]

    def visit(weights: Tensor) -> None:
        for place, turn in enumerate(turns):
            block = weights[:, turn.start : turn.stop, columns].float()
            maxima[place].append(block.amax(dim=(1, 2)))
            shares[place].append(block.sum(dim=2).mean(dim=1))

    visit_attention(model, ids, visit)
    by_turn = []
    for layer_maxima, layer_shares in zip(maxima, shares, strict=True):
        head_maxima, head_shares = torch.cat(layer_maxima), torch.cat(layer_shares)
        by_turn.append(InstructionAttention(float(head_maxima.max()), float(head_maxima.mean()), float(head_shares.mean())))
    return by_turn


def visit_attention(model: PreTrainedModel, ids: Sequence[int], visit: Visit) -> None:
    """Read ``ids`` and call ``visit`` with the attention weights (H, L, L) of each layer, from the first to the last.

    Raises ValueError for a model that is not a Llama, and for no ids or more than its context holds.
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
    """Eager attention that passes its weights to ``visit`` and does not keep them."""
    output, weights = eager_attention_forward(module, query, key, value, attention_mask, **options)
    visit(weights[0])
    return output, None


def bin_edges(spans: Sequence[range], size: int) -> list[int]:
    """The starts of bins of ``size`` neighbouring tokens, and the end of the last bin.

    No bin extends from one of ``spans`` into the next, so the last bin of a span may be smaller. Raises ValueError for a size
    below 1, and for spans that do not lie end to end.
    """
    if size < 1:
        raise ValueError(f"bins of {size} tokens were asked for; a bin has 1 token or more")
    if any(span.stop != next_span.start for span, next_span in pairwise(spans)):
        raise ValueError(f"the spans {[(span.start, span.stop) for span in spans]} do not lie end to end")
    return [*(edge for span in spans for edge in range(span.start, span.stop, size)), spans[-1].stop]


def binned(strongest: Tensor, edges: Sequence[int]) -> Tensor:
    """(M, M) the maximum of ``strongest`` (L, L) over each pair of bins; bin m holds tokens edges[m] to edges[m + 1] - 1."""
    lengths = [stop - start for start, stop in pairwise(edges)]
    covered = strongest[edges[0] : edges[-1], edges[0] : edges[-1]]
    columns = torch.stack([part.amax(dim=1) for part in covered.split(lengths, dim=1)], dim=1)
    return torch.stack([part.amax(dim=0) for part in columns.split(lengths)])


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, ALL_MASK_ATTENTION_FUNCTIONS["eager"])
