"""Lanes on roads: each query is a lane; keys and values are the picture's tokens."""
