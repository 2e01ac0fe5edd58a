"""What agents subscribed to: lists, resources, tasks."""
