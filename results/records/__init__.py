"""The form of records, and the store that keeps them."""
