"""Gateway plugin `observe_traces`: traces for OpenTelemetry."""
