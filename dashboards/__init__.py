"""Pictures of what stores of records hold."""
