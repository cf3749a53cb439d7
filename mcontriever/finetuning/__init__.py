"""From labelled questions to gradients: examples, losses, hard negatives."""
