"""Names for the arrays that pass between the router's modules."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
"""[n, dimension], each row of length one."""
Floats = NDArray[np.float64]
"""Any shape; the docstring beside it says which."""
Targets = NDArray[np.int64]
"""[n], each an index into the labels."""
