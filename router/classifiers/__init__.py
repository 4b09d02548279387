"""Turns vectors into categories with probabilities and doubt."""
