"""The model of a run: built, loaded, and looked at for frozen or unusable layers."""
