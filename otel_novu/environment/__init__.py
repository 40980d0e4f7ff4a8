"""The text of the environment: what each variable may hold, and how it becomes a value."""
