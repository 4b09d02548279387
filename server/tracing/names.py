"""Table of the names that spans and metrics have: OpenTelemetry's GenAI conventions, and ours.

The conventions are in development and change: what is renamed there is renamed here, and nowhere else. They
are those of opentelemetry-semantic-conventions 0.66b2.
"""

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
"""Name that the client asked for: a composition, with its budget, or an expert."""
REQUEST_STREAM = "gen_ai.request.stream"
RESPONSE_MODEL = "gen_ai.response.model"
"""The expert that answered."""
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105  # of language
ERROR = "error.type"

REQUEST_SECONDS = "gen_ai.server.request.duration"
FIRST_TOKEN_SECONDS = "gen_ai.server.time_to_first_token"  # noqa: S105  # the same
TOKEN_SECONDS = "gen_ai.server.time_per_output_token"  # noqa: S105  # the same
TOKENS = "gen_ai.client.token.usage"

REQUEST_ID = "coe.request.id"
KEY = "coe.key"
ROUTED_BY = "coe.routed_by"
CATEGORY = "coe.category"
CONFIDENCE = "coe.confidence"
TIER = "coe.tier"
EXPERT = "coe.expert"
SOURCE = "coe.move.from"
TARGET = "coe.move.to"
REASON = "coe.move.reason"
OUTCOME = "coe.outcome"
BYTES = "coe.move.bytes"

SYSTEM = "composition_of_experts"
"""The provider's name."""
OPERATIONS = {
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
"""Operations by the paths that are not ``chat``."""
SECOND_BOUNDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_SECOND_BOUNDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
FIRST_TOKEN_BOUNDS = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
)
TOKEN_BOUNDS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
"""Bounds of the histograms, as the conventions advise."""
