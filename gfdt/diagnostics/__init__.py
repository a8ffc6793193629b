"""How good is it: responses against a reference, scores against the identities they must satisfy."""
