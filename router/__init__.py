"""The two-step router: a prompt becomes a category, the category an expert (arXiv 2412.01868)."""
