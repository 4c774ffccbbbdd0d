"""The models of this project as models of Inspect: `inspect eval ... --model sycophancy/mini_base`.

Inspect finds this module by the entry point `inspect_ai` of the package. It asks for one sample at
a time; requests that arrive while others are computed are scored together.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Sequence
from typing import Any

import anyio
from inspect_ai.model import ChatMessage, GenerateConfig, ModelAPI, ModelOutput, modelapi
from inspect_ai.tool import ToolChoice, ToolInfo

from sycophancy.errors import UserError
from sycophancy.evaluation.items import Item, Prediction

if typing.TYPE_CHECKING:
    from sycophancy.scoring.language_model import LanguageModel

ITEM = "sycophancy_item"  # the request's key for the item whose choices are scored
MOST_REQUESTS = 512  # at a time
GATHERING = 0.1  # seconds to wait for more requests: batches of few sizes need few compilations


@dataclasses.dataclass
class _Request:
    item: Item
    prediction: Prediction | None = None


class ScoringModel(ModelAPI):
    """Answers a request with the likeliest of the choices that it carries.

    The log-likelihoods are in the output's metadata.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008  # Inspect's own default
        **settings: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self._model = _load(model_name, [f"{key}={value!r}" for key, value in settings.items()])
        self._waiting: list[_Request] = []
        self._lock = anyio.Lock()

    def max_connections(self) -> int:
        return MOST_REQUESTS

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """Scores the choices of the item in `config.extra_body`.

        Raises:
          UserError: the request has no item; other tasks need the model's own text.
        """
        fields = (config.extra_body or {}).get(ITEM)
        if fields is None:
            raise UserError(
                "sycophancy's models answer the tasks of `sycophancy export --to inspect` only; "
                "for other tasks use Inspect's own providers"
            )
        item = Item(**fields)
        prediction = await self._score(item)
        output = ModelOutput.from_content(self.model_name, item.choices[prediction.choice])
        output.metadata = {"prediction": dataclasses.asdict(prediction)}
        return output

    async def _score(self, item: Item) -> Prediction:
        request = _Request(item)
        self._waiting.append(request)
        async with self._lock:
            if request.prediction is None:
                await anyio.sleep(GATHERING)
                together, self._waiting = self._waiting, []
                items = [each.item for each in together]
                predictions = await anyio.to_thread.run_sync(self._model.score, items)
                for each, prediction in zip(together, predictions, strict=True):
                    each.prediction = prediction
        assert request.prediction is not None
        return request.prediction


modelapi(name="sycophancy")(ScoringModel)


def _load(name: str, settings: Sequence[str]) -> LanguageModel:
    from sycophancy.config.load import load_config
    from sycophancy.stages.scores import load_language_model

    config = load_config(name, "paper", settings)
    return load_language_model(config, config.model)
