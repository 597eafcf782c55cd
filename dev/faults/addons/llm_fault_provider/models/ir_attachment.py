import errno
import os

from odoo import models

from ..crash_points import has_fault


class IrAttachment(models.Model):
    _inherit = "ir.attachment"

    def _file_write(self, bin_value, checksum):
        if has_fault("disk-full"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super()._file_write(bin_value, checksum)
