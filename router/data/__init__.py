"""Reads, cleans and splits the prompts a router learns from."""
