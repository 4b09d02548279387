"""Carries out the same state machine's actions on a virtual clock, over machine profiles and traces."""
