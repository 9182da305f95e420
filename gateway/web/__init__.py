"""The edge: requests in, answers out, one envelope for every error."""
