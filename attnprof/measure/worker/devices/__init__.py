"""The devices under measurement: this host, a CUDA card, and an emulated card."""
