"""What is deployed, without a docker engine: files by their schemas and linters, commands as processes."""
