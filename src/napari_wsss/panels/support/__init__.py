"""Shared parts of the panels."""
