"""``coe bench routers``: quality against cost of our router and others. May import router."""
