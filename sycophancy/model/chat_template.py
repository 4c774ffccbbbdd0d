"""The chat template of a model, filled with turns in a sandbox, as `transformers` fills it."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from sycophancy.errors import UserError
from sycophancy.model import locations
from sycophancy.model.tokenizer import CONFIG, read_config

TEMPLATE = "chat_template.jinja"
DEFAULT = "default"  # the name of the template to use, where a model has several

# Llama 3.2 tells the model today's date. A run that continues on another day must have the same
# rows, so every day is the one that Llama 3.1's template names where it knows no date.
TODAY = datetime.datetime(2024, 7, 26)

_END = "CONTINUE_FINAL_MESSAGE_TAG "  # marks the end of the message that a model continues


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    """A compiled template.

    Attributes:
      template: the template.
      special_tokens: the texts of special tokens by role, such as `bos_token`.
    """

    template: jinja2.Template
    special_tokens: Mapping[str, str]

    def render(self, messages: Sequence[Mapping[str, str]], *, continues: bool = False) -> str:
        """The text that a model reads.

        Args:
          messages: each has `role` and `content`.
          continues: the model goes on with the last message, so the text ends with its content.
            Otherwise the text ends with the beginning of the assistant's answer.

        Raises:
          Exception: the template refuses the messages or fails; it is the model's own, and may
            raise any class.
        """
        given = [dict(message) for message in messages]
        if not continues:
            return self._fill(given, add_generation_prompt=True)
        final = given[-1]["content"]
        given[-1]["content"] += _END
        text = self._fill(given, add_generation_prompt=False)
        if _END.strip() not in text or final.strip() not in text:
            raise ValueError("the template changes the words that begin the answer")
        end = text.rindex(_END.strip())
        # A template that strips messages has stripped the mark's last space, too.
        return text[:end] if text[end:].startswith(_END) else text[:end].rstrip()

    def closing(self) -> str:
        """What the template writes after an answer of the assistant.

        Raises:
          Exception: as `render`.
        """
        answer = "ANSWER"
        messages = [
            {"role": "user", "content": "Question?"},
            {"role": "assistant", "content": answer},
        ]
        text = self._fill(messages, add_generation_prompt=False)
        _, found, closing = text.rpartition(answer)
        if not found:
            raise ValueError("the template leaves out an answer")
        return closing

    def _fill(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        return self.template.render(
            messages=messages,
            tools=None,
            documents=None,
            add_generation_prompt=add_generation_prompt,
            **self.special_tokens,
        )


def load_template(folder: Path, special_tokens: Mapping[str, str]) -> ChatTemplate | None:
    """The chat template of a model's folder: of its own file, or else of tokenizer_config.json.

    Returns:
      The template, or None if the model has none.

    Raises:
      UserError: the template cannot be compiled, or there are several and none is the default.
    """
    path = locations.inside(folder, TEMPLATE)
    if path.exists():
        try:
            return _compiled(str(path), locations.read_small(path).decode(), special_tokens)
        except UnicodeDecodeError:
            raise UserError(f"{path} is not UTF-8; copy it again") from None
    path = folder / CONFIG
    given = read_config(folder).get("chat_template")
    if isinstance(given, list):
        named = {
            entry.get("name"): entry.get("template") for entry in given if isinstance(entry, dict)
        }
        if DEFAULT not in named:
            raise UserError(
                f"{path} has the chat templates {', '.join(map(str, named))}, but none is called "
                f"{DEFAULT}; set CHAT to raw, or copy one of them to {TEMPLATE}"
            )
        given = named[DEFAULT]
    if not given:
        return None
    if not isinstance(given, str):
        raise UserError(f"{path}: chat_template is no text; set CHAT to raw, or copy it again")
    return _compiled(str(path), given, special_tokens)


def _compiled(where: str, source: str, special_tokens: Mapping[str, str]) -> ChatTemplate:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = TODAY.strftime
    try:
        return ChatTemplate(environment.from_string(source), special_tokens)
    except (jinja2.TemplateError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{where}: the chat template cannot be compiled: {reason}; set CHAT to raw"
        ) from None


class _Generation(jinja2.ext.Extension):
    """Allows `{% generation %}` around what an assistant says, and writes the content alone."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 reads it from the class

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return [jinja2.nodes.Scope(body).set_lineno(line)]


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is; jinja2's own filter escapes it for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
