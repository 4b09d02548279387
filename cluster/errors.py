"""Errors of the cluster.

ClusterError
└── SimulationImpossible  a cluster cannot be simulated as it was described
"""


class ClusterError(Exception):
    """Is the root of the tree. The message says what to do next."""


class SimulationImpossible(ClusterError):
    """Names the figure that makes no cluster, and why."""
