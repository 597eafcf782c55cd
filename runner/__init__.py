from . import statement_log
