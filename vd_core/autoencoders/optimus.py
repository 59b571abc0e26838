"""Optimus, the text autoencoder (Li et al. 2020): sentences <-> latents [B, latent_width], BERT one way and GPT-2 the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from transformers import BertConfig, BertModel, DynamicCache, GPT2Config, GPT2Model

from ..config import TextVAEConfig, TransformerConfig
from ..tokenizers import BertTokenizer, Gpt2Tokenizer, Vocabularies


class Optimus(nn.Module):
    """Text autoencoder. Without vocabularies only the functions on ids work.

    attention: transformers' name of the attention implementation; "eager" trains faster on the CPU.
    """

    def __init__(self, config: TextVAEConfig, vocabularies: Vocabularies | None = None, attention: str = "sdpa"):
        super().__init__()
        self.config = config
        self.encoder = bert(config.encoder, attention)
        self.encoder_linear = nn.Linear(config.encoder.width, 2 * config.latent_width, bias=False)
        self.decoder = gpt2(config.decoder, attention)
        self.latent_to_embedding = nn.Linear(config.latent_width, config.decoder.width, bias=False)
        self.latent_to_memory = nn.Linear(config.latent_width, config.decoder.width * config.decoder.layers, bias=False)
        self.pieces = BertTokenizer(vocabularies.bert, config.max_pieces) if vocabularies else None
        self.words = Gpt2Tokenizer(vocabularies.gpt2_vocab, vocabularies.gpt2_merges) if vocabularies else None
        self.eval()

    def posterior(self, pieces: Tensor) -> tuple[Tensor, Tensor]:
        """Word pieces [B, n], 0 = padding -> mean and log-variance of the latent, each [B, latent_width]."""
        positions = torch.arange(pieces.shape[1], device=pieces.device)[None]
        pooled = self.encoder(
            input_ids=pieces, attention_mask=(pieces > 0).long(), token_type_ids=torch.zeros_like(pieces), position_ids=positions
        ).pooler_output
        return self.encoder_linear(pooled).chunk(2, dim=1)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Sentences -> latents [B, latent_width], the posterior mean (VD never samples it). Raises ValueError for an empty list."""
        if not texts:
            raise ValueError("There is no text to encode.")
        return self.posterior(self.pieces(list(texts)).to(self.encoder_linear.weight.device))[0]

    def memory(self, latents: Tensor) -> DynamicCache:
        """The latents as one slot before the first token, in every layer both key and value: a key/value cache of length 1."""
        sizes = self.config.decoder
        slots = rearrange(self.latent_to_memory(latents), "b (l h d) -> l b h 1 d", l=sizes.layers, h=sizes.heads)
        cache = DynamicCache()
        for layer, slot in enumerate(slots):
            cache.update(slot, slot, layer)
        return cache

    def step(self, latents: Tensor, tokens: Tensor, cache: DynamicCache) -> Tensor:
        """Append tokens [B, m] to the cache -> logits of the tokens that follow each, [B, m, vocabulary].

        The latent enters a second time here, added to every token's embedding. Positions count from 1: slot 0 is the memory.
        """
        seen = cache.get_seq_length()
        positions = torch.arange(seen, seen + tokens.shape[1], device=tokens.device)[None]
        embeddings = self.decoder.wte(tokens) + self.latent_to_embedding(latents)[:, None]
        hidden = self.decoder(inputs_embeds=embeddings, past_key_values=cache, position_ids=positions, use_cache=True).last_hidden_state
        return F.linear(hidden, self.decoder.wte.weight)

    def logits(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """Latents [B, latent_width] and tokens [B, m], <BOS> first -> logits [B, m, vocabulary] of the next tokens."""
        return self.step(latents, tokens, self.memory(latents))

    def decode(
        self,
        latents: Tensor,
        generators: torch.Generator | Sequence[torch.Generator],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        """Latents [B, latent_width] -> B sentences.

        generators:  CPU generators. One for all decodes one latent after the other, as the official app does: the draws are its draws.
                     One per latent decodes all as one batch, and no sentence depends on the others.
        temperature: 0 takes the likeliest token (greedy).
        top_k, top_p: see `filter_logits`; 0 and 1 keep everything.
        progress:    called as progress(token, tokens) before every token.
        """
        rows = self.decode_ids(latents, generators, temperature, top_k, top_p, progress)
        return [self.sentence(row) for row in rows]

    def decode_ids(
        self,
        latents: Tensor,
        generators: torch.Generator | Sequence[torch.Generator],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[list[int]]:
        """As `decode`, -> the token ids of each sentence from <BOS> to <EOS>."""
        if latents.ndim != 2 or latents.shape[1] != self.config.latent_width or not len(latents):
            raise ValueError(f"Optimus decodes latents [batch, {self.config.latent_width}], got {list(latents.shape)}.")
        if temperature < 0:
            raise ValueError(f"The temperature must be at least 0, got {temperature}.")
        if isinstance(generators, torch.Generator):
            rows = []
            for number, latent in enumerate(latents):

                def report(token: int, tokens: int, offset: int = number) -> None:
                    if progress is not None:
                        progress(offset * tokens + token, len(latents) * tokens)

                rows += self.decode_batch(latent[None], [generators], temperature, top_k, top_p, report)
            return rows
        if len(generators) != len(latents):
            raise ValueError(f"There are {len(latents)} latents but {len(generators)} generators.")
        return self.decode_batch(latents, generators, temperature, top_k, top_p, progress)

    def decode_batch(
        self,
        latents: Tensor,
        generators: Sequence[torch.Generator],
        temperature: float,
        top_k: int,
        top_p: float,
        progress: Callable[[int, int], None] | None,
    ) -> list[list[int]]:
        """All latents together, with a key/value cache, until every sentence has ended."""
        rows = [[self.words.bos] for _ in latents]
        cache, longest = self.memory(latents), self.config.max_tokens
        for length in range(1, longest):
            if progress is not None:
                progress(length - 1, longest - 1)
            last = torch.tensor([[row[-1]] for row in rows], device=latents.device)
            logits = self.step(latents, last, cache)[:, -1].float().cpu()
            for row, logit, generator in zip(rows, logits, generators, strict=True):
                if row[-1] != self.words.eos:
                    row.append(draw(logit, generator, temperature, top_k, top_p))
                    if length == longest - 1:
                        row[-1] = self.words.eos  # quirk kept: the last token that fits is overwritten
            if all(row[-1] == self.words.eos for row in rows):
                break
        return rows

    def sentence(self, ids: Sequence[int]) -> str:
        """Token ids from <BOS> to <EOS> -> sentence.

        Quirk kept: a first piece without a leading blank is glued to <BOS> and lost with it.
        """
        return " ".join(self.words.decode(ids).split()[1:-1])


def draw(logits: Tensor, generator: torch.Generator, temperature: float, top_k: int, top_p: float) -> int:
    """Draw one token id from logits [vocabulary]."""
    if temperature == 0:
        return int(logits.argmax())
    kept = filter_logits(logits / temperature, top_k, top_p)
    return int(torch.multinomial(kept.softmax(dim=-1), 1, generator=generator))


def filter_logits(logits: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    """Drop (-inf) logits [vocabulary] below the k-th largest, then those behind the nucleus of probability p (Holtzman et al. 2020).

    0 switches each filter off; the likeliest token always stays.
    """
    if top_k > 0:
        threshold = logits.topk(min(top_k, len(logits))).values[-1]
        logits = logits.masked_fill(logits < threshold, -torch.inf)
    if top_p > 0:
        ordered, order = logits.sort(descending=True)
        probabilities = ordered.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1).roll(1)
        before[0] = 0
        logits = logits.index_fill(0, order[before > top_p], -torch.inf)
    return logits


def edit_latent(latents: Tensor, negative: Tensor, positive: Tensor) -> Tensor:
    """Remove one meaning and add another (the official I2T2I app): latents [B, w], negative and positive [1 or B, w] -> [B, w]."""
    direction = F.normalize(negative, dim=-1)
    return latents - (latents * direction).sum(dim=-1, keepdim=True) * direction + positive


def bert(sizes: TransformerConfig, attention: str) -> BertModel:
    """Optimus' encoder."""
    return BertModel(
        BertConfig(
            vocab_size=sizes.vocab_size,
            hidden_size=sizes.width,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.mlp_width,
            max_position_embeddings=sizes.positions,
            attn_implementation=attention,
        )
    )


def gpt2(sizes: TransformerConfig, attention: str) -> GPT2Model:
    """Optimus' decoder without its head, which is tied to the embeddings."""
    return GPT2Model(
        GPT2Config(
            vocab_size=sizes.vocab_size,
            n_embd=sizes.width,
            n_layer=sizes.layers,
            n_head=sizes.heads,
            n_inner=sizes.mlp_width,
            n_positions=sizes.positions,
            bos_token_id=sizes.vocab_size - 2,
            eos_token_id=sizes.vocab_size - 1,
            attn_implementation=attention,
        )
    )
