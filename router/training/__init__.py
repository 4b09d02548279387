"""Training and evaluation of the router that the gateway loads. May import all of router but judging."""
