"""A server with a page and an API for trained models."""
