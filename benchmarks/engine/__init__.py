"""``coe bench engine``: interleaved experts beside other ways to serve them."""
