"""Rules of the placement: how many copies, and how long it waits before it changes its mind."""

from pydantic import Field

from experts.spec import Strict


class PlacementRules(Strict):
    """Says how many copies experts have on different nodes, and when."""

    copies: int = Field(default=2, ge=1)
    """Nodes whose host memory or device should hold an expert; fewer where memory does not suffice."""
    replicas: int = Field(default=8, ge=1)
    """Most nodes whose device an expert is brought to because requests wait for it."""
    lost_grace_s: float = Field(default=10.0, ge=0)
    """Seconds after a node's loss until what it held is copied again, where another copy is left: the node
    may come back."""
    calm_s: float = Field(default=60.0, ge=0)
    """Seconds for which a replica has to be needless before it goes."""
    order_s: float = Field(default=60.0, gt=0)
    """Seconds after which a node that has not done what it was told counts as having failed, beside the
    transfer's own time."""
    avoid_s: float = Field(default=30.0, ge=0)
    """Seconds for which a node is not told again what it failed to do."""
    orders_per_node: int = Field(default=2, ge=1)
    """Experts that a node is told to bring at once."""
