"""Generated from proto/motive.proto by `make proto`; never edited by hand."""
