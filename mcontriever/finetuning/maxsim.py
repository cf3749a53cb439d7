"""MaxSim, the score of late interaction, and a teacher that scores a batch with it.

    score(q, p) = sum over the tokens of q of the largest product with a token of p

Shapes: B queries and P passages of this rank, G passages of all ranks, T tokens, L longest, D dimensions.
"""

from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from mcontriever.encoder.token_encoder import TokenEncoder, is_late_interaction
from mcontriever.errors import ModelError
from mcontriever.finetuning.triples import TripleBatch
from mcontriever.hub import model_folder
from mcontriever.ranks import gather, gather_with_grad
from mcontriever.tokens import PackedBatch, tokenizer_fingerprint

PRODUCTS_AT_ONCE = 1 << 26


class InBatchTeacher:
    """Reads the student's own batch, so both must have one tokenizer and the same prefixes. Never trained."""

    def __init__(self, encoder: TokenEncoder) -> None:
        self.encoder = encoder.eval().requires_grad_(False)

    @classmethod
    def load(cls, name: str, student: Any) -> "InBatchTeacher":
        folder = model_folder(name)
        if not is_late_interaction(folder):
            fix = "train one: mcontriever train --config configs/finetune/late_interaction_msmarco.yaml"
            raise ModelError("the in-batch teacher is not a late-interaction model", where=folder, fix=fix)
        teacher = TokenEncoder.load(name)
        for what, read in (
            ("tokenizer", lambda one: tokenizer_fingerprint(one.tokenizer)),
            ("prefix of queries", lambda one: one.query_prefix),
            ("prefix of passages", lambda one: one.document_prefix),
            ("first position", lambda one: one.first_position),
        ):
            if read(teacher) != read(student):
                fix = "train the teacher from the model that the student starts from"
                raise ModelError(f"the in-batch teacher has another {what} than the student", where=folder, fix=fix)
        return cls(teacher)

    @torch.no_grad()
    def scores(self, batch: TripleBatch) -> torch.Tensor:
        """scores_BG"""
        encoder = self.encoder.to(batch.passage_keys_P.device)
        return scores_with_all_ranks(encoder(batch.queries), batch.queries, encoder(batch.passages), batch.passages)


def scores_with_all_ranks(
    queries_TD: torch.Tensor, queries: PackedBatch, passages_TD: torch.Tensor, passages: PackedBatch
) -> torch.Tensor:
    """scores_BG of this rank's queries with the passages of all ranks."""
    longest = int(gather(torch.tensor([passages.max_length], device=passages_TD.device)).max())
    mask_PL = torch.arange(longest, device=passages_TD.device) < passages.lengths_N[:, None]
    padded_PLD = passages_TD.new_zeros(*mask_PL.shape, passages_TD.shape[1])
    padded_PLD = padded_PLD.masked_scatter(mask_PL[:, :, None], passages_TD)
    return maxsim(queries_TD, queries, gather_with_grad(padded_PLD), gather(mask_PL))


def maxsim(
    queries_TD: torch.Tensor, queries: PackedBatch, passages_GLD: torch.Tensor, mask_GL: torch.Tensor
) -> torch.Tensor:
    """scores_BG, some passages at a time; their products are computed again in the backward pass."""
    lengths_B = queries.lengths_N.long()
    row_of_token_T = torch.repeat_interleave(lengths_B, output_size=len(queries_TD))

    def of_some(passages_gLD: torch.Tensor, mask_gL: torch.Tensor) -> torch.Tensor:
        products_TgL = torch.einsum("td,gld->tgl", queries_TD, passages_gLD)
        best_Tg = products_TgL.masked_fill(~mask_gL, -torch.inf).amax(dim=2)
        return best_Tg.new_zeros(len(lengths_B), best_Tg.shape[1]).index_add(0, row_of_token_T, best_Tg)

    step = max(1, PRODUCTS_AT_ONCE // (len(queries_TD) * mask_GL.shape[1]))
    with torch.autocast(queries_TD.device.type, enabled=False):
        parts = [
            checkpoint(of_some, some_gLD, some_gL, use_reentrant=False)
            for some_gLD, some_gL in zip(passages_GLD.split(step), mask_GL.split(step), strict=True)
        ]
    return torch.cat(parts, dim=1)
