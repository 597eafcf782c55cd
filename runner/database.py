"""How the database says that it is not there."""

import psycopg2
from psycopg2.pool import PoolError

AWAY = (
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    PoolError,
    # A statement was cancelled, and whoever tidied up after it tried one more.
    psycopg2.errors.InFailedSqlTransaction,
)


def is_away(error):
    """Return whether an error means that the database cannot be reached, or hung up."""
    # A connection that died while it lay in the pool says so with the bare base class.
    return isinstance(error, AWAY) or type(error) is psycopg2.DatabaseError
