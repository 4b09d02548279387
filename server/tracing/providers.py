"""Providers of OpenTelemetry's SDK, set up by its OTEL_* variables alone."""

import importlib
import os
from typing import TYPE_CHECKING, Any

from server.config.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

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
    spans, metrics = _exporter("TRACES"), _exporter("METRICS")
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    if spans is not None:
        tracers.add_span_processor(BatchSpanProcessor(spans))
    readers = [] if metrics is None else [PeriodicExportingMetricReader(metrics)]
    return tracers, MeterProvider(readers, resource, shutdown_on_exit=False)


def _exporter(signal: str) -> Any:
    """Makes the exporter of ``TRACES`` or ``METRICS`` that the variables want; None: none. Raises
    SettingsError."""
    wanted = _wanted(signal)
    if wanted == "none":
        return None
    module, name = _EXPORTERS[signal, wanted]
    try:
        return getattr(importlib.import_module(module), name)()
    except ImportError as error:
        raise SettingsError(_GRPC if wanted == "otlp-grpc" else EXTRA) from error


_OTLP = "opentelemetry.exporter.otlp.proto"
_EXPORTERS = {
    ("TRACES", "otlp-grpc"): (f"{_OTLP}.grpc.trace_exporter", "OTLPSpanExporter"),
    ("TRACES", "otlp-http"): (f"{_OTLP}.http.trace_exporter", "OTLPSpanExporter"),
    ("TRACES", "console"): ("opentelemetry.sdk.trace.export", "ConsoleSpanExporter"),
    ("METRICS", "otlp-grpc"): (f"{_OTLP}.grpc.metric_exporter", "OTLPMetricExporter"),
    ("METRICS", "otlp-http"): (f"{_OTLP}.http.metric_exporter", "OTLPMetricExporter"),
    ("METRICS", "console"): ("opentelemetry.sdk.metrics.export", "ConsoleMetricExporter"),
}
"""Signal and exporter to the module and class that make it."""
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
