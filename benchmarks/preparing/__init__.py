"""The raw files that preparing is measured on."""
