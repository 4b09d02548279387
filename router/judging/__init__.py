"""Scores from a judge that compares experts' answers. May import clients, data, mapping and the leaves."""
