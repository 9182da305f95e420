"""What this gateway offers: models, metadata, descriptor."""
