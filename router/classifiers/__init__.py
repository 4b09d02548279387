"""Classifiers turn a prompt's vector and characters into categories, and doubts. May import the leaves."""
