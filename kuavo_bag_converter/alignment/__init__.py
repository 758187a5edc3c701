"""Which message serves which frame: stamps, the frame clock, and the plan made from them."""
