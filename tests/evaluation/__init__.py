"""Tests of mcontriever/evaluation."""
