"""Measurements, one file for each ``coe bench`` verb."""
