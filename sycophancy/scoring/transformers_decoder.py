"""Decoder-only models of the Hugging Face hub, computed by `transformers` and torch.

Each distinct prompt is computed once. Its keys and values are then repeated for its choices, so
that only the choices' own tokens are computed once more each. Prompts of similar length share a
batch, padded at the left.
"""

from __future__ import annotations

import dataclasses
import typing
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from sycophancy.config.schema import Chat, Precision
from sycophancy.errors import UserError
from sycophancy.model import decoders, locations
from sycophancy.model.decoder_text import DecoderText, load_text
from sycophancy.model.tokenizer import Tokens
from sycophancy.scoring.batching import Answer, Question
from sycophancy.scoring.decoder_questions import AsksDecoder, Progress
from sycophancy.scoring.stop_strings import cut

if typing.TYPE_CHECKING:
    import torch

# Positions of a batch on each kind of device, and the most numbers of its logits.
BATCH_TOKENS = {"cpu": 4_096}
BATCH_TOKENS_ACCELERATOR = 32_768
BATCH_LOGITS = 2**27


@dataclasses.dataclass(frozen=True)
class TransformersDecoder(AsksDecoder):
    """A `LanguageModel` of `transformers`. The logits' softmax is computed in float32.

    Attributes:
      model: a causal language model of `transformers`, on one device.
      text: its tokenizer and chat template.
      batch_tokens: positions of a batch.
    """

    model: Any
    text: DecoderText
    batch_tokens: int

    def limit(self) -> int:
        """The most tokens that the model was made for."""
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or decoders.DEFAULT_TOKENS)

    def answer(self, questions: list[Question], progress: Progress | None) -> None:
        """Computes batches of questions with prompts of similar length."""
        items, done = sum(len(question.items) for question in questions), 0
        for batch in self._batches(questions):
            self._answer(batch)
            done += sum(len(question.items) for question in batch)
            if progress:
                progress(done, items)

    def generate(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        stop: Sequence[str] = (),
        progress: Progress | None = None,
        continuations: bool = False,
    ) -> list[str]:
        """The text that greedy decoding writes after each prompt, in the order of the prompts.

        Raises:
          UserError: a prompt is too long.
        """
        repeats = Counter(prompts)
        distinct = list(repeats)
        of_prompt = self.read_prompts(distinct, max_new_tokens, continuations=continuations)
        tokens = list(of_prompt.values())
        written: dict[str, str] = {}
        order = sorted(range(len(distinct)), key=lambda index: -len(tokens[index]))
        while order:
            longest = len(tokens[order[0]]) + max_new_tokens
            size = max(1, self.batch_tokens // longest)
            batch, order = order[:size], order[size:]
            answers = self._write([tokens[index] for index in batch], max_new_tokens, stop)
            for index, answer in zip(batch, answers, strict=True):
                written[distinct[index]] = answer
            if progress:
                progress(sum(repeats[prompt] for prompt in written), len(prompts))
        return [written[prompt] for prompt in prompts]

    @property
    def _cache(self) -> str:
        """What the model calls its keys and values: `past_key_values` in older `transformers`."""
        return "cache" if "cache" in _parameters(type(self.model)) else "past_key_values"

    # ---- batches --------------------------------------------------------------------------------

    def _batches(self, questions: list[Question]) -> Iterator[list[Question]]:
        """Batches of questions with prompts of similar length, the longest first."""
        vocabulary = self.model.config.get_text_config().vocab_size
        questions.sort(key=lambda question: -len(question.prompt))
        batch: list[Question] = []
        rows = longest = 0
        for question in questions:
            rows += len(question.choices)
            longest = max([longest, *map(len, question.choices.values())])
            width = len((batch or [question])[0].prompt)
            tokens = (len(batch) + 1) * width + rows * longest
            logits = rows * longest * vocabulary
            if batch and (tokens > self.batch_tokens or logits > BATCH_LOGITS):
                yield batch
                batch, rows = [], len(question.choices)
                longest = max(map(len, question.choices.values()))
            batch.append(question)
        if batch:
            yield batch

    def _answer(self, batch: Sequence[Question]) -> None:
        """Computes the prompts of a batch, then their choices, and stores the answers."""
        import torch

        with torch.inference_mode():
            ids, mask = self._padded([question.prompt for question in batch], left=True)
            computed = self._forward(ids, mask, keep=1, use_cache=True)
            rows = [
                (row, text, tokens)
                for row, question in enumerate(batch)
                for text, tokens in question.choices.items()
            ]
            places = torch.tensor([row for row, _, _ in rows], device=ids.device)
            choices, real = self._padded([tokens for _, _, tokens in rows], left=False)
            logits = computed.logits[:, -1:].index_select(0, places)
            if choices.shape[1] > 1:
                cache = getattr(computed, self._cache)
                cache.batch_select_indices(places)
                seen = torch.cat([mask.index_select(0, places), real[:, :-1]], dim=1)
                after = self._forward(choices[:, :-1], seen, **{self._cache: cache})
                logits = torch.cat([logits, after.logits], dim=1)
            likelihoods, best = _outcomes(logits, choices)
            sums = (likelihoods.double() * real).sum(1).tolist()
            greedy = (best | ~real.bool()).all(1).tolist()
        for (row, text, _), total, is_greedy in zip(rows, sums, greedy, strict=True):
            batch[row].answers[text] = Answer(float(np.float32(total)), is_greedy)

    def _write(
        self, contexts: Sequence[Tokens], max_new_tokens: int, stop: Sequence[str]
    ) -> list[str]:
        import torch
        from transformers import GenerationConfig

        ids, mask = self._padded(contexts, left=True)
        length = ids.shape[1]

        def stopped(rows: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            texts = [self.text.decode(row) for row in rows[:, length:].tolist()]
            found = [any(string in text for string in stop) for text in texts]
            return torch.tensor(found, device=rows.device)

        config = GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=list(self.text.end_ids),
            pad_token_id=self.text.tokenizer.pad_id,
        )
        with torch.inference_mode():
            whole = self.model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=config,
                stopping_criteria=[stopped] if stop else None,
            )
        return [cut(self.text.decode(row), stop) for row in whole[:, length:].tolist()]

    def _padded(
        self, rows: Sequence[Tokens], *, left: bool
    ) -> tuple[Int[torch.Tensor, "rows positions"], Int[torch.Tensor, "rows positions"]]:
        """Rows of equal length on the model's device, and 1 for each token that is no padding."""
        import torch

        length = max(map(len, rows))
        ids = np.zeros((len(rows), length), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(rows):
            place = slice(length - len(tokens), None) if left else slice(len(tokens))
            ids[row, place], mask[row, place] = tokens, 1
        device = self.model.device
        return torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)

    def _forward(
        self,
        ids: Int[torch.Tensor, "rows positions"],
        mask: Int[torch.Tensor, "rows all_positions"],
        keep: int = 0,
        **more: Any,
    ) -> Any:
        """Computes tokens after those in the cache, if one is given.

        Args:
          ids: the tokens.
          mask: of the cached tokens and of these: 1 for each that is no padding.
          keep: how many logits at the end to compute; 0: all.
          more: passed on.
        """
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        accepted = _parameters(type(self.model))
        if "position_ids" in accepted:
            more["position_ids"] = positions
        if keep and "logits_to_keep" in accepted:
            more["logits_to_keep"] = keep
        return self.model(input_ids=ids, attention_mask=mask, **more)


def load(name: str, chat: Chat, precision: Precision = "auto") -> TransformersDecoder:
    """Loads a model onto this machine's accelerator, or else its processor.

    Args:
      name: a local folder or `hf:owner/name`.
      chat: as `decoder_text.load_text`.
      precision: the type of the parameters. `auto` is float32 on a processor and bfloat16 on an
        accelerator, or float16 on one that does not compute bfloat16.

    Raises:
      UserError: torch or `transformers` is missing, or they cannot read or compute the model.
    """
    decoders.check_libraries()
    text = load_text(name, chat)
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    if precision == "auto":
        bfloat16 = device.type != "cuda" or torch.cuda.is_bf16_supported()
        precision = "float32" if device.type == "cpu" else "bfloat16" if bfloat16 else "float16"
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            locations.local(name),
            dtype=getattr(torch, precision),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except Exception as error:  # the library raises many classes
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{name}: transformers cannot read this model: {reason}") from None
    finally:
        if shown:
            logging.enable_progress_bar()
    size = BATCH_TOKENS.get(device.type, BATCH_TOKENS_ACCELERATOR)
    return TransformersDecoder(model.eval().to(device), text, size)


def _outcomes(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-likelihood of each target token (float32), and whether the token is the argmax."""
    import torch

    of_targets = logits.gather(2, targets[:, :, None])[:, :, 0].float()
    # Row by row, so that float32 logits of all rows never stand in memory together.
    normalizers = torch.stack([row.float().logsumexp(-1) for row in logits])
    return of_targets - normalizers, logits.argmax(-1) == targets


def _parameters(model_class: type) -> set[str]:
    """The names of the arguments that a model takes."""
    import inspect

    return set(inspect.signature(model_class.forward).parameters)  # type: ignore[attr-defined]
