"""The options of ``coe router train`` that choose an embedder."""

import argparse


def add(train: argparse.ArgumentParser) -> None:
    group = train.add_argument_group("embedder")
    group.add_argument(
        "--embedder", metavar="NAME", help="one that ships, or endpoint; minilm-l6-int8 by default"
    )
    group.add_argument(
        "--embedder-url",
        metavar="URL",
        help="OpenAI-compatible endpoint with /embeddings; COE_EMBEDDER_URL. COE_EMBEDDER_KEY has its key",
    )
    group.add_argument("--embedder-model", metavar="NAME", help="what it calls the model")
    group.add_argument("--embedder-parameters", metavar="SIZE", help="of the model, such as 7.11B or 335M")
    group.add_argument("--embedder-instruction", metavar="TEXT", help="put before each text as it is")
    group.add_argument(
        "--embedder-characters", type=int, metavar="N", help="what is sent of a longer text; 4096 by default"
    )
