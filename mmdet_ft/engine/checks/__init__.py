"""What is said before the GPU starts: the config, the data, the room on the disk, a run in small."""
