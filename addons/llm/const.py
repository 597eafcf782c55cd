import re

#: roles of a message in a conversation; the message subtype of a role is ``llm.mt_<role>``
LLM_ROLES = [
    ("user", "User"),
    ("assistant", "Assistant"),
    ("tool", "Tool"),
    ("system", "System"),
]

MODEL_USES = [
    ("chat", "Chat"),
    ("multimodal", "Multimodal"),
    ("completion", "Completion"),
    ("embedding", "Embedding"),
    ("generation", "Generation"),
    ("image_generation", "Image Generation"),
]

#: capability told by a provider -> model use, in order of preference
CAPABILITY_USES = {
    "embedding": "embedding",
    "text-embedding": "embedding",
    "image_generation": "image_generation",
    "text-to-image": "image_generation",
    "vision": "multimodal",
    "multimodal": "multimodal",
    "chat": "chat",
    "completion": "completion",
}

#: for providers that tell no capability: pattern in the model's name -> model use
NAME_USES = [
    (re.compile(r"embed|\b(bge|e5|gte|minilm)\b"), "embedding"),
    (re.compile(r"dall-?e|gpt-image|imagen|stable-?diffusion|sdxl|\bflux"), "image_generation"),
    (re.compile(r"\b(whisper|tts|sora|veo|transcribe)\b"), "generation"),
    (re.compile(r"vision|llava|pixtral|gpt-4o|gpt-5|\bvl\b|\d+b?-?vl\b"), "multimodal"),
    (re.compile(r"^(davinci|babbage|gpt-3\.5-turbo-instruct)"), "completion"),
]
