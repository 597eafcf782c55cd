import mimetypes
import re
from urllib.parse import quote

import requests

from odoo import api, models
from odoo.exceptions import UserError

from .. import completion
from ..client import CONNECT_TIMEOUT, OpenAIClient

DEFAULT_API_BASE = "https://api.openai.com/v1"
IMAGE_USES = ("image_generation", "generation")
#: What a user's inputs may say: what shapes an answer, and nothing that names objects of the
#: account, has the server fetch or run something, or is paid for apart.
TEXT_INPUTS = frozenset({
    *("frequency_penalty", "logit_bias", "logprobs"),
    *("max_completion_tokens", "max_output_tokens", "max_tokens"),
    *("min_p", "presence_penalty", "prompt", "reasoning_effort", "repetition_penalty"),
    *("response_format", "seed", "stop", "temperature", "top_k", "top_logprobs", "top_p"),
    "verbosity",
})
IMAGE_INPUTS = frozenset({
    *("background", "guidance_scale", "n", "negative_prompt", "output_compression"),
    *("output_format", "prompt", "quality", "response_format", "seed", "size", "steps", "style"),
})
IMAGE_FORMATS = ("png", "jpeg", "webp")


class LlmProvider(models.Model):
    _inherit = "llm.provider"

    @api.model
    def _get_available_services(self):
        return [*super()._get_available_services(), ("openai", "OpenAI-compatible")]

    # === CLIENT === #

    def _openai_client(self, timeout=None):
        """Return a client with the address and the key of this provider.

        :param timeout: `(connect, read)` seconds in the place of the client's own limits
        """
        self.ensure_one()
        key = self._read_api_key().strip()
        if not re.fullmatch(r"[!-~]*", key):
            raise UserError(
                self.env._(
                    "The API key of %s has spaces or letters that no key has. Enter it again.",
                    self.name,
                )
            )
        if timeout is None and (seconds := self._answer_seconds()):
            timeout = (CONNECT_TIMEOUT, seconds)
        on_connection = self.env.context.get("llm_on_response")
        return OpenAIClient(self.api_base or DEFAULT_API_BASE, key, timeout, on_connection)

    def _answer_seconds(self):
        """Return how long an answer is waited for where somebody has set that, None elsewhere."""
        inherited = getattr(super(), "_answer_seconds", None)
        return inherited and inherited()

    # === CHAT === #

    @api.private
    def openai_chat(
        self,
        messages,
        model=None,
        stream=False,
        tools=None,
        prepend_messages=None,
        timeout=None,
        max_tokens=None,
        max_completion_tokens=None,
        **kwargs,
    ):
        """Ask for the next message of a conversation: README.md tells what is returned and raised.

        :param messages: `mail.message` records, or dicts as the server wants them
        :param prepend_messages: dicts to put before `messages`
        :param timeout: `(connect, read)` seconds
        :param max_tokens: of the answer, at most; newer models know it as `max_completion_tokens`
        :param kwargs: further parameters of the request, as `temperature`
        """
        model = self.get_model(model, "chat")
        client = self._openai_client(timeout)
        limits = {"max_tokens": max_tokens, "max_completion_tokens": max_completion_tokens}
        payload = {
            **kwargs,
            **{name: limit for name, limit in limits.items() if limit is not None},
            "model": model.name,
            "messages": [*(prepend_messages or ()), *self._openai_messages(messages, model)],
        }
        if tools:
            payload["tools"] = self._openai_tools(tools)
        if stream:
            return self._openai_stream(client, payload)
        return completion.parse_completion(client.post("chat/completions", payload, "choices"))

    @api.private
    def openai_chat_inputs(self):
        """Return the names of those further parameters that users may give."""
        return TEXT_INPUTS - {"prompt"}

    def _openai_stream(self, client, payload):
        on_response = self.env.context.get("llm_on_response")
        payload = {**payload, "stream": True, "stream_options": {"include_usage": True}}
        yield from completion.parse_stream(self._openai_events(client, payload, on_response))

    @staticmethod
    def _openai_events(client, payload, on_response):
        try:
            yield from client.stream("chat/completions", payload, on_response)
        except requests.HTTPError as error:
            if error.response.status_code not in {400, 422} or "stream_options" not in str(error):
                raise
        else:
            return
        # A server that does not know the option: ask again, without the usage.
        payload = {key: value for key, value in payload.items() if key != "stream_options"}
        yield from client.stream("chat/completions", payload, on_response)

    # === GENERATE === #

    @api.private
    def openai_generate(self, input_data, model=None, stream=False, timeout=None, **kwargs):
        """Make an image or a text out of `input_data`.

        :param dict input_data: a `prompt`, and parameters of the request as `IMAGE_INPUTS` or
            `TEXT_INPUTS` name them
        :return: the output and the files, as `[{"url", "content_type", "filename"}]`
        :raise UserError: for other parameters
        """
        model = self.get_model(model, "generation")
        client = self._openai_client(timeout)
        is_image = model.model_use in IMAGE_USES
        self._openai_check_inputs(input_data, IMAGE_INPUTS if is_image else TEXT_INPUTS)
        payload = {**input_data, **kwargs, "model": model.name}
        if is_image:
            body = client.post("images/generations", payload, "data")
            output, files = self._openai_images(body)
            if not files:
                raise client.unreadable(body)
            return output, files
        if "messages" not in payload:
            payload["messages"] = [{"role": "user", "content": str(payload.pop("prompt", ""))}]
        if "max_output_tokens" in payload:  # the name that another interface has for it
            payload["max_tokens"] = payload.pop("max_output_tokens")
        body = client.post("chat/completions", payload, "choices")
        return completion.parse_completion(body), []

    def _openai_check_inputs(self, inputs, allowed):
        """Raise a `UserError` unless all inputs of a user are allowed ones."""
        if unknown := sorted(map(str, inputs.keys() - allowed)):
            raise UserError(
                self.env._(
                    "The inputs cannot have %(unknown)s. Take it out: the provider is given"
                    " %(allowed)s only.",
                    unknown=", ".join(unknown)[:200],
                    allowed=", ".join(sorted(allowed)),
                )
            )

    @staticmethod
    def _openai_images(body):
        files, output_format = [], body.get("output_format")
        content_type = f"image/{output_format if output_format in IMAGE_FORMATS else 'png'}"
        for index, image in enumerate(body.get("data") or (), start=1):
            url = image.get("url")
            if image.get("b64_json"):
                url = f"data:{content_type};base64,{image['b64_json']}"
            if not url:
                continue
            extension = mimetypes.guess_extension(content_type) or ".png"
            files.append({
                "url": url,
                "content_type": content_type,
                "filename": f"image_{index}{extension}",
            })
        output = {key: value for key, value in body.items() if key != "data"}
        output["revised_prompts"] = [
            image["revised_prompt"] for image in body.get("data") or () if "revised_prompt" in image
        ]
        return output, files

    # === OTHER === #

    @api.private
    def openai_embedding(self, texts, model=None, timeout=None):
        """Return one vector per text, in the order of the texts."""
        model = self.get_model(model, "embedding")
        texts = [texts] if isinstance(texts, str) else list(texts)
        body = self._openai_client(timeout).post(
            "embeddings", {"model": model.name, "input": texts}, "data"
        )
        rows = sorted(body.get("data") or (), key=lambda row: row.get("index", 0))
        return [row["embedding"] for row in rows]

    @api.private
    def openai_models(self, model_id=None):
        """Return `[{"name", "details"}]` of the server's models, or of the one asked for."""
        model_id = model_id and self._openai_segment(model_id)
        client = self._openai_client()
        if model_id:
            rows = [client.get(f"models/{model_id}")]
        else:
            rows = client.get("models", "data").get("data") or []
        return [
            {"name": row["id"], "details": row}
            for row in (rows if isinstance(rows, list) else ())
            if isinstance(row, dict) and isinstance(row.get("id"), str)
        ]

    def _openai_segment(self, name):
        """Return a name as a segment of an address, out of which it cannot lead.

        :raise UserError: for one that leads elsewhere even when it is quoted
        """
        name = str(name)
        if name in {"", ".", ".."}:
            raise UserError(
                self.env._("“%s” is no name of a model. Fetch the models of the provider.", name)
            )
        return quote(name, safe="")

    # === FORMATS === #

    def _openai_messages(self, messages, model):
        if isinstance(messages, models.BaseModel):
            return self.format_messages(messages, model=model)
        return messages

    def _openai_tools(self, tools):
        if isinstance(tools, models.BaseModel):
            return self.format_tools(tools)
        return tools
