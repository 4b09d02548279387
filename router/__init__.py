"""The two-step router: a prompt becomes a category, the category an expert (arXiv 2412.01868).

The modules here are of two kinds. Leaves (arrays, atomic_file, cache_file, decision, errors, parameters,
progress) import nothing of ours but each other. The rest (composition, router, settings, stickiness) is what
requests meet: it may import artifacts, conversations, embedders, mapping and classifiers, and is imported by
training.
"""
