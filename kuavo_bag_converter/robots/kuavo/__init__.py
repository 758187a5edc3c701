"""The Kuavo robots of Leju: their options, their profile and what the original did."""
