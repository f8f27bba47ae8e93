"""Built-in sources: data that need no file, each registered by its name."""
