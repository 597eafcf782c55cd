"""Keys, secrets and tokens: what code uses for a user who may not see it."""


def read_secret(record, name):
    """Return a stored text field of a record, and leave nothing in a cache.

    A field that is read as superuser stays in the record's cache, and others with it: whatever
    code reads them later in the same transaction is given them, and no record rule is asked.

    :rtype: str
    :raise AccessError: when the user of the record may not read the record
    """
    record.ensure_one()
    record.check_access("read")
    # sudo: the field is closed to who may use it; that they may read the record was checked.
    records = record.sudo().with_context(active_test=False)
    rows = records._read_group([("id", "=", record.id)], [name])
    return (rows and rows[0][0]) or ""
