"""From a config to a trained model: the training loop and its environment."""
