"""What keeps a cell's figures honest: files that stay closed, data that stays as it was, predictions that repeat."""
