"""Predictions of packed models for images and sentences, and how little a program imports to make them."""
