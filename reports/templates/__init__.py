"""The HTML report's template, style sheet and script, as package data."""
