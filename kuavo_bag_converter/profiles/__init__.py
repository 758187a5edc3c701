"""What a frame is made of: the model, and profiles in YAML."""
