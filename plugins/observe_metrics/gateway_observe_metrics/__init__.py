"""Gateway plugin `observe_metrics`: figures for Prometheus."""
