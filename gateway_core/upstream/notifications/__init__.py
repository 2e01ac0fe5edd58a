"""Notifications from upstream servers to subscribed agents: list changes, resource updates, task status, logs."""
