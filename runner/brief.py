"""What was read of a claimed job, to be used without a database connection."""

from dataclasses import dataclass, field

from .answer import Claim


@dataclass(frozen=True)
class Brief:
    """A claimed job, whose rights it runs with, and the values that providers read.

    `earlier_job` is the provider's id of an earlier attempt's job that may still run there.
    `values` maps `(model, id)` to `{field name: value as in the ORM's cache}`. `refusal` says
    why the job may not run, and is empty for one that may.
    """

    claim: Claim
    user_id: int
    context: dict
    values: dict = field(default_factory=dict)
    refusal: str = ""
    earlier_job: str = ""
