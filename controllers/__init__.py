from . import chat_route
from . import main
from . import webhook
