"""The time, in SQL."""

#: The database's clock: several servers share it, whatever their own clocks say.
NOW = "(clock_timestamp() AT TIME ZONE 'UTC')"
#: What is noted for later than this was noted before the clock was set back: the clocks of the
#: servers may differ by less.
AHEAD = f"({NOW} + interval '30 seconds')"
