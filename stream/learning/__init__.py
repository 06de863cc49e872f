"""What learns: examples, buffer, network, updates, gate, the trainer. What serves never imports it."""
