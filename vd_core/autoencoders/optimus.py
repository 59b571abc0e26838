"""Optimus, the text autoencoder (Li et al. 2020): sentences <-> latents [B, latent_width], BERT one way and
GPT-2 the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..config import TextVAEConfig, TransformerConfig
from ..finite import check_finite
from ..placement import check_device, check_given, convert_for
from ..tokenizers import BertTokenizer, Gpt2Tokenizer, Vocabularies, list_texts
from .gpt2 import GPT2, Cache

if TYPE_CHECKING:  # transformers takes seconds to import: the function that needs it imports it
    from transformers import BertModel


class Optimus(nn.Module):
    """Text autoencoder, in eval mode. Without vocabularies only the functions on ids work.

    attention: transformers' name of the encoder's attention implementation; "eager" trains faster on the CPU.

    Raises ValueError for vocabularies of another size than the model's.
    """

    def __init__(
        self, config: TextVAEConfig, vocabularies: Vocabularies | None = None, attention: str = "sdpa"
    ):
        super().__init__()
        self.config = config
        self.encoder = build_bert(config.encoder, attention)
        self.encoder_linear = nn.Linear(config.encoder.width, 2 * config.latent_width, bias=False)
        self.decoder = GPT2(config.decoder)
        self.latent_to_embedding = nn.Linear(config.latent_width, config.decoder.width, bias=False)
        self.latent_to_memory = nn.Linear(
            config.latent_width, config.decoder.width * config.decoder.layers, bias=False
        )
        self.tokenizers: tuple[BertTokenizer, Gpt2Tokenizer] | None = None
        if vocabularies:
            words = Gpt2Tokenizer(vocabularies.gpt2_vocab, vocabularies.gpt2_merges)
            self.tokenizers = BertTokenizer(vocabularies.bert, config.max_pieces), words
            check_size("BERT", len(self.pieces.ids), config.encoder.vocab_size)
            check_size("GPT-2", self.words.eos + 1, config.decoder.vocab_size)
        self.eval()

    @property
    def pieces(self) -> BertTokenizer:
        """The encoder's tokenizer. Raises ValueError without vocabularies."""
        return self._tokenizers()[0]

    @property
    def words(self) -> Gpt2Tokenizer:
        """The decoder's tokenizer. Raises ValueError without vocabularies."""
        return self._tokenizers()[1]

    def _tokenizers(self) -> tuple[BertTokenizer, Gpt2Tokenizer]:
        if self.tokenizers is None:
            raise ValueError(
                "This text autoencoder was made without vocabularies: it works on token ids only."
            )
        return self.tokenizers

    def posterior(self, pieces: Tensor) -> tuple[Tensor, Tensor]:
        """Encode word pieces [B, n], 0 = padding, as mean and log-variance of the latent, each [B,
        latent_width].
        """
        positions = torch.arange(pieces.shape[1], device=pieces.device)[None]
        pooled = self.encoder(
            input_ids=pieces,
            attention_mask=(pieces > 0).long(),
            token_type_ids=torch.zeros_like(pieces),
            position_ids=positions,
        ).pooler_output
        return self.encoder_linear(pooled).chunk(2, dim=1)

    @torch.no_grad()
    def encode(self, texts: str | Sequence[str]) -> Tensor:
        """Encode sentences, one or several, as latents [B, latent_width]: the posterior mean (VD never
        samples it).

        Raises ValueError for no sentence, for what are no strings, and for weights that give no finite
        numbers.
        """
        sentences = list_texts(texts)
        if not sentences or not all(isinstance(sentence, str) for sentence in sentences):
            raise ValueError(
                f"The text autoencoder encodes a sentence or a list of at least one, got {texts!r}."
            )
        weight = self.encoder_linear.weight
        check_device(weight, "text autoencoder")
        mean = self.posterior(self.pieces(sentences).to(weight.device))[0]
        check_finite("The text autoencoder's encoder", mean)
        return mean

    def start_cache(self, latents: Tensor) -> Cache:
        """Make the cache to start with: the latents as one slot before the first token, key and value in
        every layer.
        """
        sizes = self.config.decoder
        slots = rearrange(
            self.latent_to_memory(latents), "b (l h d) -> l b h 1 d", l=sizes.layers, h=sizes.heads
        )
        return [(slot, slot) for slot in slots]

    def step(self, latents: Tensor, tokens: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """Append tokens [B, m] -> logits of the tokens that follow each, [B, m, vocabulary], and the longer
        cache.

        The latent enters a second time here, added to every token's embedding. Positions count from 1: slot 0
        is the memory.
        """
        hidden, cache = self.decoder(
            self.decoder.wte(tokens) + self.latent_to_embedding(latents)[:, None], cache
        )
        return F.linear(hidden, self.decoder.wte.weight), cache

    def logits(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """Predict the next tokens of tokens [B, m], <BOS> first, under latents: logits [B, m, vocabulary]."""
        return self.step(latents, tokens, self.start_cache(latents))[0]

    def decode(
        self,
        latents: Tensor,
        generators: torch.Generator | Sequence[torch.Generator],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[str]:
        """Decode latents [B, latent_width] to B sentences.

        generators:  CPU generators. One for all decodes one latent after the other, as the official app does:
                     the draws are its draws. One per latent decodes all as one batch, and no sentence depends
                     on the others.
        temperature: divides the logits; 0 takes the likeliest token (greedy).
        top_k, top_p: see `filter_logits`; 0 and 1 keep everything.
        progress:    called as progress(done, total) after every token, with done = total at the end; it stops
                     decoding by raising.

        Raises ValueError for latents of another shape or that are not finite, for weights that give no finite
        numbers, a temperature below 0, or another number of generators than of latents.
        """
        rows = self.decode_ids(latents, generators, temperature, top_k, top_p, progress)
        return [self.join_ids(row) for row in rows]

    @torch.no_grad()
    def decode_ids(
        self,
        latents: Tensor,
        generators: torch.Generator | Sequence[torch.Generator],
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[list[int]]:
        """Decode like `decode`, to the token ids of each sentence from <BOS> to <EOS>."""
        check_given(latents, "latents", "text autoencoder")
        if latents.ndim != 2 or latents.shape[1] != self.config.latent_width or not len(latents):
            raise ValueError(
                f"Optimus decodes latents [batch, {self.config.latent_width}], got {list(latents.shape)}."
            )
        if not isinstance(temperature, Real) or not temperature >= 0:
            raise ValueError(f"The temperature must be at least 0, got {temperature!r}.")
        if top_k < 0 or not 0 <= top_p <= 1:
            raise ValueError(f"top_k must be at least 0 and top_p within 0..1, got {top_k} and {top_p}.")
        latents = convert_for(self.latent_to_memory.weight, latents, "latents", "text autoencoder")
        if isinstance(generators, torch.Generator):
            batches: list[tuple[Tensor, Sequence[torch.Generator]]] = [
                (latent, [generators]) for latent in latents.split(1)
            ]
        elif not isinstance(generators, Sequence):
            raise ValueError(
                f"generators must be a torch.Generator or a list of them, got {type(generators).__name__}."
            )
        elif len(generators) == len(latents):
            batches = [(latents, generators)]
        else:
            raise ValueError(f"There are {len(latents)} latents but {len(generators)} generators.")

        def choose(logits: Tensor, generator: torch.Generator) -> int:
            return draw(logits, generator, temperature, top_k, top_p)

        rows, most = [], self.config.max_tokens - 1  # <BOS> is there from the start
        for number, batch in enumerate(batches):
            for step, sentences in enumerate(self.write(*batch, choose), start=1):
                ended = all(row[-1] == self.words.eos for row in sentences)
                if progress is not None:
                    progress(number * most + (most if ended else step), len(batches) * most)
            rows += sentences
        return rows

    def write(
        self,
        latents: Tensor,
        generators: Sequence[torch.Generator],
        choose: Callable[[Tensor, torch.Generator], int],
    ) -> Iterator[list[list[int]]]:
        """Write all latents together, token by token, until every sentence has ended; yields them after each
        token.

        choose: (logits [vocabulary], generator) -> token id, called for the sentences that have not ended.
        """
        rows = [[self.words.bos] for _ in latents]
        cache, longest = self.start_cache(latents), self.config.max_tokens
        while any(row[-1] != self.words.eos for row in rows):
            last = torch.tensor([[row[-1]] for row in rows], device=latents.device)
            logits, cache = self.step(latents, last, cache)
            check_finite("The text autoencoder's decoder", logits, [latents])
            for row, logit, generator in zip(rows, logits[:, -1].float().cpu(), generators, strict=True):
                if row[-1] != self.words.eos:
                    row.append(choose(logit, generator))
                    if len(row) == longest:
                        row[-1] = self.words.eos  # Quirk kept: the last token that fits is overwritten.
            yield rows

    def join_ids(self, ids: Sequence[int]) -> str:
        """Join token ids from <BOS> to <EOS> into a sentence.

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
    """Drop (-inf) logits [vocabulary] below the k-th largest, then those behind the nucleus of probability p
    (Holtzman et al. 2020).

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
    """Remove one meaning and add another (the official I2T2I app): latents [B, w], negative and positive [1
    or B, w] -> [B, w].
    """
    direction = F.normalize(negative, dim=-1)
    return latents - (latents * direction).sum(dim=-1, keepdim=True) * direction + positive


def check_size(name: str, found: int, wanted: int) -> None:
    """Refuse vocabularies of another size than the model's. Raises ValueError."""
    if found != wanted:
        raise ValueError(
            f"The {name} vocabulary has {found} tokens, special ones included, where the text autoencoder "
            f"needs {wanted}."
        )


def build_bert(sizes: TransformerConfig, attention: str) -> BertModel:
    """Build Optimus' encoder."""
    from transformers import BertConfig, BertModel

    return BertModel(
        BertConfig(
            vocab_size=sizes.vocab_size,
            hidden_size=sizes.width,
            num_hidden_layers=sizes.layers,
            num_attention_heads=sizes.heads,
            intermediate_size=sizes.mlp_width,
            max_position_embeddings=sizes.positions,
            attn_implementation=attention,  # type: ignore[call-arg]  # read by its base class
        )
    )
