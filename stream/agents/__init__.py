"""Faust agents: decode, call the core, store and emit. Nothing here decides anything about learning."""
