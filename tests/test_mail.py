from odoo import Command
from odoo.exceptions import UserError

from .test_ownership import OwnershipCommon


class TestMail(OwnershipCommon):
    """Odoo's mail gateway can be called by anybody, and works as superuser."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.owner.email = "ownership.owner@example.com"
        cls.partners = cls.env["res.partner"]

    def _mail(self, number):
        return (
            f"From: {self.owner.email}\nTo: nobody@example.com\nSubject: Mailed {number}\n"
            f"Message-Id: <{number}@example.com>\nContent-Type: text/plain\n\nForged"
        )

    def _process(self, user, *args, **kwargs):
        return self._rpc(user, self.partners, "message_process", *args, **kwargs)

    def test_nobody_gets_a_conversation_and_jobs_in_the_name_of_a_sender(self):
        job = {"state": "queued", "user_id": self.owner.id, "generation_inputs": {"prompt": "x"}}
        values = {
            "name": "Forged",
            "user_id": self.owner.id,
            "provider_id": self.native.id,
            "model_id": self.native_model.id,
            "tool_ids": [Command.link(self.tool.id)],
            "generation_job_ids": [Command.create(job)],
        }
        threads, jobs = (self.env[name].search([]) for name in ("llm.thread", "llm.generation.job"))
        for user in (self.other, self.manager, self.admin):
            with self.subTest(user=user.login):
                result = self._process(user, "llm.thread", self._mail(user.login), values)
                self._assert_refused(result)
                self.assertEqual(self.env["llm.thread"].search([]), threads)
                self.assertEqual(self.env["llm.generation.job"].search([]), jobs)

    def test_no_mail_gets_into_a_conversation(self):
        told = self._context_of(self.thread)
        answering = f"References: {self.question.message_id}\n"
        for user in (self.other, self.manager, self.admin):
            for mail, to in (
                (self._mail(user.login), {"thread_id": self.thread.id}),
                (answering + self._mail(f"{user.login}-2"), {}),
            ):
                with self.subTest(user=user.login, to=to):
                    self._assert_refused(self._process(user, "llm.thread", mail, **to))
                    self.assertEqual(self._context_of(self.thread), told)

    def test_the_gateway_itself_brings_no_mail_either(self):
        told = self._context_of(self.thread)
        for model, record in (("llm.thread", self.thread), ("llm.generation.queue", self.queue)):
            count = len(record.message_ids)
            for to in ({}, {"thread_id": record.id}):
                with self.subTest(model=model, to=to), self.assertRaises(UserError):
                    self.partners.message_process(model, self._mail(f"{model}-{len(to)}"), **to)
            self.assertEqual(len(record.message_ids), count)
        self.assertEqual(self._context_of(self.thread), told)

    def test_nobody_else_gives_values_to_what_a_mail_creates(self):
        forged = {"body": "Forged", "model": "llm.thread", "res_id": self.thread.id}
        told = self._context_of(self.thread)
        for user in (self.other, self.manager):
            for values in ({"message_ids": [Command.create(forged)]}, {"comment": "Forged"}):
                with self.subTest(user=user.login, values=list(values)):
                    self._assert_refused(
                        self._process(user, "res.partner", self._mail(user.login), values)
                    )
        self.assertEqual(self._context_of(self.thread), told)

    def test_mail_is_brought_as_before_elsewhere(self):
        values = {"comment": "By mail"}
        made = self._process(self.other, "res.partner", self._mail("plain"))
        self.assertEqual(self.partners.browse(made).name, "Mailed plain")
        made = self._process(self.admin, "res.partner", self._mail("administrator"), values)
        self.assertIn("By mail", self.partners.browse(made).comment)
        made = self.partners.message_process("res.partner", self._mail("gateway"), values)
        self.assertIn("By mail", self.partners.browse(made).comment)
