"""What the training loop stands on: process group, engine, checkpoints, run folder, metrics, guards, estimates."""
