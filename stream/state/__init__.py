"""What is kept of a user: values, codec, tables, and the read model."""
