"""A file in, a file out, whatever happens in between: parts, resume, shards, workers, writers."""
