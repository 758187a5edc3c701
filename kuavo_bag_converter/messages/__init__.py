"""From the bytes of a message to numbers, pictures and depth maps."""
