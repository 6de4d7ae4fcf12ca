"""Questions about a run that train nothing: what it would do, cost, and resume from."""
