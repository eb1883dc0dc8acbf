"""Read the datasets of other libraries."""
