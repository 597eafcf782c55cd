"""The time, in SQL."""

#: The database's clock: several servers share it, whatever their own clocks say.
NOW = "(clock_timestamp() AT TIME ZONE 'UTC')"
