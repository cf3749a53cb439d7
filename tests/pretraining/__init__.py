"""Tests of the pre-training department."""
