import logging
import time
from pathlib import Path

from odoo import api, models

from ..protocol.http_errors import DISK_FULL
from ..runner.executor import received
from ..runner.limits import PATIENCE

_logger = logging.getLogger(__name__)


class IrAttachment(models.Model):
    """Files of answers, which are paid for."""

    _inherit = "ir.attachment"

    @api.model
    def _get_path(self, bin_data, sha):
        """Remove what a full disk, or a process that was killed, has left of the same file.

        Odoo takes it for another file of the same name, and refuses ours.
        """
        if received(self.env, "generation_recorder"):
            path = Path(self._full_path(f"{sha[:2]}/{sha}"))
            is_begun = path.is_file() and path.stat().st_size < len(bin_data)
            if is_begun and bin_data.startswith(path.read_bytes()):
                path.unlink(missing_ok=True)
        return super()._get_path(bin_data, sha)

    @api.model
    def _file_write(self, bin_value, checksum):
        """Wait for room on the disk, where the provider cannot be asked for the answer again."""
        recorder = received(self.env, "generation_recorder")
        waits = recorder and not (recorder.is_direct or recorder.is_repeatable)
        for pause in PATIENCE if waits else ():
            try:
                return super()._file_write(bin_value, checksum)
            except OSError as error:
                if error.errno not in DISK_FULL:
                    raise
            _logger.warning("The disk is full: an answer waits for room for its file")
            time.sleep(pause)
        return super()._file_write(bin_value, checksum)
