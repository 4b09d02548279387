"""Measurements, one folder a verb of ``coe bench``."""
