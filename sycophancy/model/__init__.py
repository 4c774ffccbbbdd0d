"""The network, its checkpoints, and the devices it runs on."""
