"""What a user holds: entries, splits, batches and framework feeds."""
