"""What bags hold, how healthy they are, and which configurations fit them."""
