"""Foreign events into ours: one module for each family of learning platforms, pure functions all of them."""
