"""The settings stored an empty token as 0, which everybody knows."""


def migrate(cr, version):
    """Forget that token: without one there are no metrics."""
    if version:
        cr.execute("""
            DELETE FROM ir_config_parameter
            WHERE key = 'llm_generate_job.metrics_token' AND value = '0'
        """)
