"""`coe bench public-routing`: our predictions on grades that others published. May import router."""
