import json
import time

from odoo.tests import BaseCase, tagged

from odoo.addons.llm_generate_job.const import ERROR_TYPES

from .. import results


@tagged("post_install", "-at_install")
class TestResults(BaseCase):
    def test_error_types_are_known_ones(self):
        self.assertLessEqual(set(results.ERROR_TYPES.values()), {code for code, _ in ERROR_TYPES})

    def test_the_longer_the_line_the_later_the_next_question(self):
        for position, wait in ((0, 1.0), (4, 5.0), (500, 30.0)):
            result = results.read_status({"status": "IN_QUEUE", "queue_position": position})

            self.assertEqual((result["state"], result["poll_after"]), ("queued", wait))

    def test_an_end_with_an_error_is_no_success(self):
        for error_type, state in (
            ("runner_disconnected", "failed"),
            ("unheard_of", "failed"),
            (None, "failed"),
            ("client_cancelled", "cancelled"),
        ):
            with self.subTest(error_type):
                status = {"status": "COMPLETED", "error": "It broke.", "error_type": error_type}

                self.assertEqual(results.read_status(status)["state"], state)

    def test_progress_is_the_last_percentage_of_the_log(self):
        for logs, progress in (
            (None, None),
            ([], None),
            ([{"message": "Loading"}], None),
            ([{"message": "10%"}, {"message": " 55.5 %|###"}, {"message": "Saving"}], 55.5),
            ([{"message": "900% better"}, "text"], 100.0),
        ):
            with self.subTest(logs):
                self.assertEqual(results.read_progress(logs), progress)

    def test_files_are_found_wherever_they_are(self):
        one, two, three = ({"url": f"https://x/{number}"} for number in range(3))
        output = {
            "images": [one, two],
            "video": {"file": three},
            "again": one,
            "url_of": "https://x",
        }

        found = results.find_files(output)

        self.assertCountEqual(
            [file["url"] for file in found], [f["url"] for f in (one, two, three)]
        )

    def test_files_are_found_in_linear_time(self):
        def seconds(count):
            output = {"images": [{"url": f"https://x/{number}"} for number in range(count)]}
            start = time.process_time()
            self.assertEqual(len(results.find_files(output)), count)
            return time.process_time() - start

        seconds(1000)
        # 0.8 MB took ten seconds once, and a fourfold output sixteen times as long.
        self.assertLess(seconds(200_000), 40 * max(seconds(20_000), 0.01))

    def test_inline_files_are_left_out_of_what_is_stored(self):
        output = {"images": [{"url": "data:image/png;base64,AAAA"}], "seed": 5}

        self.assertEqual(
            results.without_data(output), {"images": [{"url": "data:image/png;base64"}], "seed": 5}
        )

    def test_an_output_of_any_depth_is_stored(self):
        for levels in range(60, 420, 40):
            output = json.loads(b'{"a":[' * levels + b"]}" * levels)

            self.assertIn("[…]", json.dumps(results.without_data(output), ensure_ascii=False))
