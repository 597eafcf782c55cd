from odoo.addons.llm_generate_job.tests.common import LlmGenerationCommon
from odoo.addons.llm_openai.tests.common import API_KEY, ServerMixin


def response(status, text="", **values):
    """Return a response as the server has it."""
    output = [
        {"type": "reasoning", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": text}],
        },
    ]
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "output": output if text else [],
        "usage": {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14} if text else None,
        **values,
    }


class LlmOpenaiJobCommon(ServerMixin, LlmGenerationCommon):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.provider, cls.model = cls._create_provider("Loopback", "openai")
        cls.provider.write({
            "api_base": cls.api_base,
            "api_key": API_KEY,
            "use_background_jobs": True,
        })
