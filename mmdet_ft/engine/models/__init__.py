"""The model of a run: building, loading, and checks for frozen or unusable layers."""
