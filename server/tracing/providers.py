"""Providers of OpenTelemetry's SDK, set up by its OTEL_* variables alone."""

import os
from typing import TYPE_CHECKING

from server.config.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

EXTRA = "observation.opentelemetry needs the extra otel: pip install 'composition-of-experts[otel]'"


def providers() -> "tuple[TracerProvider, MeterProvider] | None":
    """Makes the providers of spans and metrics; None where OTEL_SDK_DISABLED is true. The SDK reads
    OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_METRIC_EXPORT_INTERVAL
    and OTEL_EXPORTER_OTLP_* by itself. Raises SettingsError where the SDK is not installed, or a variable
    says what there is not."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(EXTRA) from error
    resource = Resource.create()
    if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "coe"}))
    spans, metrics = _span_exporter(), _metric_exporter()
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if spans is not None:
        tracers.add_span_processor(BatchSpanProcessor(spans))
    readers = [] if metrics is None else [PeriodicExportingMetricReader(metrics)]
    return tracers, MeterProvider(readers, resource, shutdown_on_exit=False)


def _span_exporter() -> "SpanExporter | None":
    match _wanted("TRACES"):
        case "otlp-grpc":
            try:
                from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as ByGrpc
            except ImportError as error:
                raise SettingsError(_GRPC) from error
            return ByGrpc()
        case "otlp-http":
            try:
                from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            except ImportError as error:
                raise SettingsError(EXTRA) from error
            return OTLPSpanExporter()
        case "console":
            from opentelemetry.sdk.trace.export import ConsoleSpanExporter

            return ConsoleSpanExporter()
        case _:
            return None


def _metric_exporter() -> "MetricExporter | None":
    match _wanted("METRICS"):
        case "otlp-grpc":
            try:
                from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (
                    OTLPMetricExporter as ByGrpc,
                )
            except ImportError as error:
                raise SettingsError(_GRPC) from error
            return ByGrpc()
        case "otlp-http":
            try:
                from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
            except ImportError as error:
                raise SettingsError(EXTRA) from error
            return OTLPMetricExporter()
        case "console":
            from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

            return ConsoleMetricExporter()
        case _:
            return None


_GRPC = (
    "OTEL_EXPORTER_OTLP_PROTOCOL is grpc: pip install opentelemetry-exporter-otlp-proto-grpc, or say "
    "http/protobuf"
)


def _wanted(signal: str) -> str:
    """Returns the exporter of ``TRACES`` or ``METRICS`` by the variables. Raises SettingsError."""
    exporter = os.environ.get(f"OTEL_{signal}_EXPORTER") or "otlp"
    if exporter in ("console", "none"):
        return exporter
    if exporter != "otlp":
        raise SettingsError(f"OTEL_{signal}_EXPORTER is {exporter!r}; there are otlp, console and none")
    common = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or common
    known = {"http/protobuf": "otlp-http", "grpc": "otlp-grpc"}
    if protocol not in known:
        raise SettingsError(f"the OTLP protocol {protocol!r} is unknown; there are {', '.join(known)}")
    return known[protocol]
