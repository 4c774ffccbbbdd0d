"""A model of this project as a model of the LM evaluation harness, with the same results as there.

The conventions are those of the harness's own class for Hugging Face encoder-decoders
(`lm_eval.models.huggingface.HFLM` with `backend="seq2seq"`): the encoder reads the context and the
end of sequence; the continuation is encoded by itself and scored without an end of sequence;
spaces at the end of the context belong to the continuation; what is too long loses its beginning.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs

from sycophancy.errors import UserError
from sycophancy.evaluation.limits import longer_than

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

    from sycophancy.scoring.language_model import LanguageModel, Progress

DEFAULT_NEW_TOKENS = 256  # the harness's own, for tasks that name no limit
END_OF_SEQUENCE = "</s>"
# Decoding is greedy, so these change nothing; `max_length` also counts the prompt there.
WITHOUT_EFFECT = ("temperature", "do_sample", "max_length")


@dataclasses.dataclass(frozen=True)
class _Context:
    """The continuations of one context; all are scored in one row."""

    item_id: str
    inputs: str
    choices: tuple[str, ...]
    free_text: bool = True


class HarnessModel(LM):
    """Answers the harness's requests with a language model of this project.

    If there are several processes, each builds the same requests and gets all answers, so each is
    the only process as far as the harness knows.

    Args:
      model: the model to ask.
      progress: called with the number of contexts done and of all contexts.

    Attributes:
      notes: one sentence for each property of the requests that changed what was asked.
    """

    def __init__(self, model: LanguageModel, progress: Progress | None = None) -> None:
        super().__init__()
        self.model, self.progress = model, progress
        self.notes: list[str] = []

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of each continuation, and whether greedy decoding would write it.

        Continuations with the text of T5's end token (`</s>`) include the end of sequence, as they
        do where T5's own tokenizer reads them.

        Raises:
          UserError: the continuations of one context are too long together.
        """
        whole = [request.args[1].endswith(END_OF_SEQUENCE) for request in requests]
        pairs = [
            split(context, continuation.removesuffix(END_OF_SEQUENCE))
            for context, continuation in (request.args for request in requests)
        ]
        answers = {}
        for ends in set(whole):
            alike = [pair for pair, end in zip(pairs, whole, strict=True) if end == ends]
            answers[ends] = self._answers(alike, ends, requests[0].task_name)
        results = [answers[ends][pair] for pair, ends in zip(pairs, whole, strict=True)]
        self._remember("loglikelihood", requests, results)
        return results

    def _answers(
        self, pairs: Sequence[tuple[str, str]], ends: bool, task: str | None
    ) -> dict[tuple[str, str], tuple[float, bool]]:
        """The answers to contexts and continuations, with or without an end of sequence."""
        continuations: dict[str, dict[str, None]] = defaultdict(dict)
        for context, continuation in pairs:
            continuations[context][continuation] = None
        items = [
            _Context(f"of task {task}, context {n}", context, tuple(choices))
            for n, (context, choices) in enumerate(continuations.items())
        ]
        longest = self.model.count_tokens([choice for item in items for choice in item.choices])
        self._note_long_prompts(list(continuations), self.model.room(longest.max(initial=0)))
        predictions = self.model.score(items, self.progress, continuations=not ends)
        return {
            (item.inputs, choice): (float(log_likelihood), bool(greedy))
            for item, prediction in zip(items, predictions, strict=True)
            for choice, log_likelihood, greedy in zip(
                item.choices, prediction.log_likelihoods, prediction.greedy, strict=True
            )
        }

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> NoReturn:
        """Refuses: an encoder-decoder gives a likelihood to an answer, not to a text by itself, and
        for decoder-only models it is not computed here.

        Raises:
          UserError: always.
        """
        raise UserError(
            f"task {requests[0].task_name} asks for the likelihood of whole texts, which an "
            "encoder-decoder does not define and which is not computed for other models; choose "
            "tasks with choices or generated answers"
        )

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """The text that greedy decoding writes after each context.

        Raises:
          UserError: a task asks for samples.
        """
        alike: dict[tuple[int, tuple[str, ...]], list[int]] = defaultdict(list)
        for number, request in enumerate(requests):
            alike[self._stopping(request.args[1], request.task_name)].append(number)
        results = [""] * len(requests)
        for (max_new_tokens, stop), numbers in alike.items():
            room = self.model.room(max_new_tokens)
            prompts = self._shortened([requests[number].args[0] for number in numbers], room)
            texts = self.model.generate(
                prompts,
                max_new_tokens=max_new_tokens,
                stop=stop,
                progress=self.progress,
                continuations=True,
            )
            for number, text in zip(numbers, texts, strict=True):
                results[number] = text
        self._remember("generate_until", requests, results)
        return results

    def _stopping(
        self, arguments: Mapping[str, Any], task: str | None
    ) -> tuple[int, tuple[str, ...]]:
        """The limit of tokens and the stop strings of a request."""
        known: dict[str, Any] = dict(normalize_gen_kwargs(dict(arguments), DEFAULT_NEW_TOKENS))
        if known.pop("do_sample", False):
            raise UserError(
                f"task {task} asks for samples (do_sample, temperature "
                f"{known['temperature']:g}); only greedy decoding is supported: set do_sample=False"
            )
        until = known.pop("until", None) or []
        limit = known.pop("max_gen_toks")
        if ignored := sorted(set(known) - set(WITHOUT_EFFECT)):
            self._note(f"{task}: {', '.join(ignored)} have no effect here")
        stop = [text for text in ([until] if isinstance(until, str) else until) if text]
        if not self.model.keeps_line_breaks and any("\n" in text for text in stop):
            self._note(
                "texts do not end at line breaks, because this model's vocabulary reads them as "
                "spaces"
            )
            stop = [text for text in stop if "\n" not in text]
        return limit, tuple(stop)

    def _note_long_prompts(self, contexts: Sequence[str], room: int) -> list[bool]:
        """Which contexts have more than `room` tokens; a note says how many."""
        longer = longer_than(contexts, room, self.model.count_tokens).tolist()
        if any(longer):
            self._note(
                f"{sum(longer):,} of {len(contexts):,} prompts are longer than "
                f"{room:,} tokens and lost their beginnings"
            )
        return longer

    def _shortened(self, contexts: Sequence[str], room: int) -> list[str]:
        """The contexts; of each that is too long, the longest end that fits, in whole words."""
        longer = self._note_long_prompts(contexts, room)
        return [
            self._longest_end(context, room) if beyond else context
            for context, beyond in zip(contexts, longer, strict=True)
        ]

    def _longest_end(self, context: str, room: int) -> str:
        starts = [n for n in range(1, len(context)) if context[n - 1].isspace()] + [len(context)]
        low, high = 0, len(starts) - 1  # the first start that fits lies between them
        while low < high:
            middle = (low + high) // 2
            (count,) = self.model.count_tokens([context[starts[middle] :]])
            low, high = (low, middle) if count <= room else (middle + 1, high)
        return context[starts[low] :]

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _remember(self, kind: str, requests: Sequence[Instance], results: Sequence[Any]) -> None:
        """Puts the answers into the harness's cache of answers, if it keeps one."""
        for request, result in zip(requests, results, strict=True):
            self.cache_hook.add_partial(kind, request.args, result)


def split(context: str, continuation: str) -> tuple[str, str]:
    """Moves the spaces at the end of a context to its continuation.

    >>> split("Answer: ", "yes")
    ('Answer:', ' yes')
    """
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation
