"""Pictures of what the store of records holds; they arrive with the dashboard."""
