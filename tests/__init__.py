"""The tests of mcontriever; they mirror the package."""
