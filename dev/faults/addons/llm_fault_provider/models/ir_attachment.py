import errno
import os
from pathlib import Path

from odoo.addons.base.models import ir_attachment

from ..crash_points import has_fault

_write = ir_attachment.IrAttachment._file_write


def _file_write(self, bin_value, checksum):
    """Write a file; half of it where the disk is full, as the kernel does."""
    if has_fault("disk-full"):
        _name, path = self._get_path(bin_value, checksum)
        Path(path).write_bytes(bin_value[: len(bin_value) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return _write(self, bin_value, checksum)


# Below all that other modules add to it: what fails is the disk.
ir_attachment.IrAttachment._file_write = _file_write
