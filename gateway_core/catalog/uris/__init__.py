"""URIs of resources: links in results, and URI templates."""
