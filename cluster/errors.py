"""Errors of the cluster.

ClusterError
├── LogUnwritable      a placement's event log cannot be written
├── LogUnreadable      a file is no placement log of this version
└── SimulationImpossible  a cluster cannot be simulated as it was described
"""


class ClusterError(Exception):
    """Is the root of the tree. The message says what to do next."""


class LogUnwritable(ClusterError):
    """Says why a placement's event log cannot be written."""


class LogUnreadable(ClusterError):
    """Names the file and line that are no placement log of this version."""


class SimulationImpossible(ClusterError):
    """Names the figure that makes no cluster, and why."""
