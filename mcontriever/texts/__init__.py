"""Where text comes from: files and addresses, lines and rows of every container, documents and BEIR folders."""
