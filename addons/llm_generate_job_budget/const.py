#: Days for which it is known what was spent; a budget is that of one day.
SPENDING_DAYS = 7

#: First keys of the locks under which the budgets of a user and of a company are reserved; the
#: second is the record's id. They follow `LIVENESS_LOCK` of llm_generate_job.
BUDGET_LOCKS = {"company": 1_819_110_254, "user": 1_819_110_255}
