"""Responses that need no score, what an unlinked system would show, and where estimates agree."""
