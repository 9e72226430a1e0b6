"""pg_motive's training side: from labelled texts to a calibrated, evaluated model repository."""
