from . import test_attendant
from . import test_delegation
from . import test_execution
from . import test_loss
from . import test_rights_matrix
from . import test_translations
