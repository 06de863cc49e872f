"""The same jobs in other frameworks, and by hand; each runs in an environment of its own."""
