from . import test_batches
from . import test_rights_matrix
