"""`make demo`: a private PostgreSQL, the sidecar and sample texts, annotated and shown. Not for production."""
