"""The time, in SQL."""

#: The database's clock: several servers share it, whatever their own clocks say.
NOW = "(clock_timestamp() AT TIME ZONE 'UTC')"

#: The moment at which time brings something for a job: its provider is told that it was cancelled
#: (at once), it joins the line, is retried, or is asked about. One index has them all.
DUE = """
    (CASE WHEN must_cancel THEN 'epoch'::timestamp
        WHEN state = 'queued' THEN scheduled_at
        WHEN state = 'failed' THEN retry_at
        ELSE next_poll_at END)"""
#: The jobs that have such a moment.
HAS_DUE = """
    (must_cancel IS TRUE
        OR (state = 'queued' AND is_delayed IS TRUE)
        OR (state = 'failed' AND retry_at IS NOT NULL)
        OR (state = 'running' AND external_job_id IS NOT NULL))"""
