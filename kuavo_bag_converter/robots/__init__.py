"""Robots whose options build a profile, and which profile the settings mean."""
