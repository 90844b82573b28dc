"""Models as files for phones and servers, and what runs them; see `export` and `load_exported`."""
