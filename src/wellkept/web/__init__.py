"""A page to look at a cache: its data as plain dicts, and the same as HTML, as JSON and as static files."""
