"""Figures: functions that draw on an ``ax`` and return it."""
