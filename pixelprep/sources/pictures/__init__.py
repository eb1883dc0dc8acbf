"""Read pictures in folders and archives: which there are, what they are, their pixels."""
