"""Arguments of the commands; nothing here imports torch, so that help and mistakes respond at once."""
