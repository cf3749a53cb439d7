"""The embedding store on disk."""
