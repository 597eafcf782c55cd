"""How PostgreSQL keeps the tables that each job writes several times within seconds."""

#: Each job leaves three dead rows, and their entries in the index that the claim reads. By the
#: share of a large table that is the default, they would wait for hundreds of thousands.
JOBS = """
    ALTER TABLE llm_generation_job SET (
        autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0.02, autovacuum_analyze_threshold = 2000)
"""

#: An attempt is written twice, the second time into the room that its page keeps for that: no
#: index has to know.
ATTEMPTS = """
    ALTER TABLE llm_generation_attempt SET (
        fillfactor = 70,
        autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000)
"""
