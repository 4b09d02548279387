"""The two-step router: a prompt becomes a category, the category an expert (arXiv 2412.01868).

The modules here are of two kinds. Leaves (arrays, atomic_file, cache_file, conversation,
decision, errors, harness, manifest, parameters, progress) import nothing of ours but each other. The rest
(artifact, composition, recall, router, settings, stickiness) is what requests meet: it may import mapping,
classifiers and embedders, and is imported by training.
"""
