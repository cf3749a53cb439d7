"""The one layer that joins departments: a configuration to ready objects."""
