"""What happens to a run that is stopped, hangs or fails: noticed, told, saved, tried again."""
