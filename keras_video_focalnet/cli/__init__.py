"""The `video-focalnet` command: one file a command, thin over the package."""
