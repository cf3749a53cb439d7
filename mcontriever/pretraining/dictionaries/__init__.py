"""Bilingual dictionaries as training signal: switched words and dictionary pairs."""
