"""The training loop and what it uses: process group, engine, checkpoints, run folder, metrics, guards, estimates."""
