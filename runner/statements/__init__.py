"""The SQL of the engine. Times are UTC without time zone, as Odoo stores them.

Who runs a statement takes its transaction from `llm.generation.engine._transaction()`: READ
COMMITTED, so that what is read after a lock is what is true after the lock.
"""
