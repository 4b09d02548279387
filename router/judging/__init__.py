"""Grades experts' answers with a judge model."""
