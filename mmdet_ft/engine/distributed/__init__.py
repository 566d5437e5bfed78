"""Several processes: launch, process groups and the few collectives that a run needs."""
