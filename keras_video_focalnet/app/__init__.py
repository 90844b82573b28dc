"""A page to try models on: a video is dropped or recorded, and its classes, timeline and maps are seen."""
