"""Finer categories for a router that was trained without: as many as training makes of graded prompts."""

from dataclasses import replace

import numpy as np

from router.artifacts.artifact import Artifact
from router.classifiers.lexicon import BUCKETS
from router.classifiers.linear import Linear
from router.mapping.clusters import Clusters
from router.mapping.expected_scores import LANDMARKS, ExpectedScores
from router.mapping.expert_mapping import ExpertMapping

CLUSTERS = 500
"""Some as many as 13,730 prompts with grades of five experts get."""
EXPERTS = 5


def clustered(artifact: Artifact, seed: int) -> Artifact:
    """The labels have ``CLUSTERS`` among them, each with its label's expert. The numbers are drawn by lot:
    how long a decision takes depends on how many they are, not on what they say."""
    labels, dimension = artifact.classifier.labels, artifact.embedder.dimension
    names = tuple(f"{labels[place % len(labels)]}/{place // len(labels)}" for place in range(CLUSTERS))
    draw = np.random.default_rng(seed)
    clusters = Clusters(
        ExpectedScores(
            Linear(
                draw.normal(size=(EXPERTS, dimension)).astype(np.float32),
                np.full(EXPERTS, 0.5, dtype=np.float32),
                draw.normal(size=(BUCKETS, EXPERTS)).astype(np.float16),
            ),
            draw.normal(0, dimension**-0.5, size=(LANDMARKS, dimension)).astype(np.float32),
            draw.normal(size=(EXPERTS, LANDMARKS)).astype(np.float32),
        ),
        names,
        draw.normal(size=(CLUSTERS, EXPERTS + 1)).astype(np.float32),
    )
    experts = {name: artifact.mapping[label] for name, label in clusters.labels.items()}
    mapping = ExpertMapping(dict(artifact.mapping.experts) | experts)
    return replace(artifact, clusters=clusters, mapping=mapping)


def rows_of(artifact: Artifact) -> int:
    """How many rows the map is read at: finer categories, and labels that have none."""
    labels, clusters = artifact.classifier.labels, artifact.clusters
    if clusters is None:
        return len(labels)
    return len(clusters.names) + len(set(labels) - set(clusters.labels.values()))
