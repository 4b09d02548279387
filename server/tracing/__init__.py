"""OpenTelemetry: requests and moves as spans, GenAI metrics. May import config and observation."""
