from . import chat_route
from . import event_stream
from . import webhook
