"""``coe bench tiers``: what deciding costs, and policies beside their rivals."""
