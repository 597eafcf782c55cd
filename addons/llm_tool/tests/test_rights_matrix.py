from odoo.exceptions import AccessError

from odoo.addons.llm_generate_job.tests.rights import ROLES, RightsMatrix

from .common import LlmToolCommon


class TestRightsMatrix(RightsMatrix, LlmToolCommon):
    addon = "llm_tool"

    def _sample(self, name):
        if name == "ir.actions.server":
            values = {
                "name": "A",
                "state": "code",
                "model_id": self.env["ir.model"]._get_id("res.partner"),
            }
            return self.env[name].create(values), values, {"name": "B"}
        if name != "llm.tool":
            raise KeyError(name)
        values = {"description": "Reads.", "implementation": "read_records"}
        tool = self.env[name].create({"name": "matrix", **values})
        return tool, {"name": "matrix_2", **values}, {"name": "matrix_3"}

    def test_no_tool_is_run_by_a_remote_call(self):
        tool = self.env.ref("llm_tool.llm_tool_search_records")
        parameters = {"model": "res.partner"}
        for role in ROLES:
            for method in ("execute", "search_records_execute"):
                result = self._rpc(role, "llm.tool", method, tool.ids, parameters)
                with self.subTest(role=role, method=method):
                    self.assertIsInstance(result, AccessError)
