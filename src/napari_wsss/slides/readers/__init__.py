"""One small file per kind of source; each is imported only when a source needs it."""
