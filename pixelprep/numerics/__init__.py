"""Pure arithmetic: arrays in, numbers out."""
