"""Search over vectors: exact, FAISS, Milvus."""
