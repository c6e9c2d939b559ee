"""What training and serving agree on: the model's description, its files, its session and the ledger."""
