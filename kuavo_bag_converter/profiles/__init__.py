"""What a frame is made of: the model, YAML profiles and the profile of the Kuavo robots."""
